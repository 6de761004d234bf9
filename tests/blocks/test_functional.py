"""Functional builders: signature, text and example come from the class."""

import doctest
import inspect

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.blocks._functional import _snake_case

BUILDERS = [
    name
    for name in kf.blocks.__all__
    if inspect.isfunction(getattr(kf.blocks, name)) and name not in kf.__all__
]
CLASSES = {_snake_case(name): name for name in kf.blocks.__all__ if name[0].isupper()}


def test_names():
    assert "fused_mb_conv" in BUILDERS
    assert "low_rank_conv2d" in BUILDERS
    assert set(BUILDERS) <= set(CLASSES)


@pytest.mark.parametrize("name", BUILDERS)
def test_example_of_the_builder_runs(name):
    text = inspect.getdoc(getattr(kf.blocks, name))
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert len(example.examples) == 2
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_signature_is_that_of_the_class_after_the_inputs(name):
    builder, block = getattr(kf.blocks, name), getattr(kf.blocks, CLASSES[name])
    first, *rest = inspect.signature(builder).parameters.values()
    assert first.name == "inputs"
    assert rest == list(inspect.signature(block).parameters.values())
    assert builder.__name__ == name


def test_text_has_every_section_once():
    text = inspect.getdoc(kf.blocks.inverted_residual)
    for section in ("Args:", "Returns:", "Input shape:", "Raises:", "Example:"):
        assert text.count(f"\n{section}\n") == 1
    assert "expansion: t, a number > 0. Defaults to 6." in text


def test_layers_are_named_after_the_block():
    inputs = keras.Input((8, 8, 4))
    outputs = kf.blocks.conv_norm_act(inputs, 4, name="stem")
    names = [one.name for one in keras.Model(inputs, outputs).layers[1:]]
    assert names == ["stem_conv", "stem_norm", "stem_act"]


def test_two_builders_without_a_name_do_not_collide():
    x = inputs = keras.Input((8, 8, 4))
    for _ in range(2):
        x = kf.blocks.conv_norm_act(x, 4)
    assert len(keras.Model(inputs, x).layers) == 1 + 2 * 3


def test_data_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"use the layer: kf\.blocks\.ConvNormAct\("):
        kf.blocks.conv_norm_act(np.ones((1, 8, 8, 3)), 4)


def test_a_model_of_builders_is_cloned_with_its_inside():
    inputs = keras.Input((8, 8, 8))
    model = keras.Model(inputs, kf.blocks.shuffle_unit(inputs, 8))
    seen = []

    def look(layer):
        seen.append(type(layer).__name__)
        return type(layer).from_config(layer.get_config())

    keras.models.clone_model(model, clone_function=look)
    assert seen.count("Conv2D") == 2
