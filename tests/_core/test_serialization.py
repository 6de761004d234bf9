import keras
import pytest

from keras_fitkit._core.serialization import serializable


def make_class(name, module="one"):
    return type(
        name,
        (keras.constraints.Constraint,),
        {"__module__": module, "__qualname__": name, "__call__": lambda self, w: w},
    )


def test_class_is_found_under_the_package_name():
    item = make_class("SerializationProbe")
    assert serializable(item) is item
    assert keras.saving.get_registered_name(item) == "keras_fitkit>SerializationProbe"
    assert keras.saving.get_registered_object("keras_fitkit>SerializationProbe") is item


def test_function_is_found_and_still_works():
    @serializable
    def serialization_probe_double(x):
        return 2 * x

    name = "keras_fitkit>serialization_probe_double"
    assert serialization_probe_double(3) == 6
    assert keras.saving.get_registered_object(name) is serialization_probe_double


def test_object_goes_through_keras_and_back():
    item = serializable(make_class("SerializationRoundTrip"))
    config = keras.saving.serialize_keras_object(item())
    assert config["registered_name"] == "keras_fitkit>SerializationRoundTrip"
    assert type(keras.saving.deserialize_keras_object(config)) is item


def test_another_class_of_the_same_name_is_an_error():
    first = serializable(make_class("SerializationTwice", "one"))
    with pytest.raises(
        ValueError,
        match=r"`SerializationTwice` must be registered once\. Received: "
        r"two\.SerializationTwice, but 'keras_fitkit>SerializationTwice' is "
        r"one\.SerializationTwice already",
    ):
        serializable(make_class("SerializationTwice", "two"))
    name = "keras_fitkit>SerializationTwice"
    assert keras.saving.get_registered_object(name) is first


def test_reloaded_class_takes_the_place_of_the_old_one():
    serializable(make_class("SerializationReload"))
    again = serializable(make_class("SerializationReload"))
    name = "keras_fitkit>SerializationReload"
    assert keras.saving.get_registered_object(name) is again


def test_class_without_config_is_refused_by_keras():
    with pytest.raises(ValueError, match="does not have a get_config"):
        serializable(type("SerializationBare", (), {}))
