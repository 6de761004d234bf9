"""augmentation: the same number of values, labels that fit, on tf.data and arrays."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf

# The light ones and the medium ones are parts of these.
IMAGES = ["digits", "image-strong", "image-cutmix"]


def batch(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 255, (6, 12, 12, 3)).astype("float32")
    return x, keras.utils.to_categorical(np.arange(6) % 3, 3).astype("float32")


# Keras's own layers, on JAX and torch.
@pytest.mark.filterwarnings(
    r"ignore:[\s\S]*dtype int64 requested in arange:UserWarning"
)
@pytest.mark.filterwarnings(r"ignore:[\s\S]*Tensor\.T is deprecated:UserWarning")
@pytest.mark.parametrize("preset", IMAGES)
def test_images_of_arrays(preset):
    x, y = batch()
    made, labels = kf.augmentation(preset, seed=1)(x, y)
    assert isinstance(made, np.ndarray)
    assert isinstance(labels, np.ndarray)
    assert made.shape == x.shape
    assert np.isfinite(made).all()
    assert not np.array_equal(made, x)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    again, _ = kf.augmentation(preset, seed=1)(x, y)
    np.testing.assert_array_equal(made, again)


STRONG = pytest.param(
    "image-strong",
    marks=pytest.mark.skipif(
        keras.backend.backend() == "jax",
        reason="tracing Keras's RandAugment costs half a minute of CPU time there",
    ),
)


@pytest.mark.parametrize(
    "preset", ["image-light", "image-cutmix", STRONG, "tabular-medium"]
)
def test_a_dataset(preset):
    import tensorflow as tf

    x, y = batch()
    if preset.startswith("tabular"):
        x = x.reshape(6, -1)
    weights = np.ones(6, "float32")
    mixed = preset in ("image-strong", "image-cutmix")
    values = (x, y) if mixed else (x, y, weights)
    data = tf.data.Dataset.from_tensor_slices(values).batch(3)
    found = list(data.map(kf.augmentation(preset)))
    assert len(found) == 2
    assert len(found[0]) == len(values)
    assert found[0][0].shape == (3, *x.shape[1:])
    assert not np.array_equal(found[0][0].numpy(), x[:3])


def test_x_alone():
    x, _ = batch()
    assert kf.augmentation("image-light")(x).shape == x.shape


def test_noise_of_tables_has_its_width():
    x = np.zeros((500, 40), "float32")
    found = kf.augmentation("tabular-medium", seed=0)(x)
    assert found.dtype == x.dtype
    # .1 / sqrt(2 * 20,000) is the standard error
    assert abs(found.std() - 0.1) < 4 * 0.0005


def test_noise_of_tensors_is_seeded():
    x = keras.ops.zeros((4, 3))
    one, two = (
        keras.ops.convert_to_numpy(kf.augmentation("tabular-light", seed=s)(x))
        for s in (1, 1)
    )
    if keras.backend.backend() != "tensorflow":  # there a tf.data graph draws
        np.testing.assert_array_equal(one, two)
    assert one.std() > 0


def test_what_noise_cannot_be_added_to_is_refused():
    augment = kf.augmentation("tabular-light")
    with pytest.raises(ValueError, match=r"`x` must be of floats.*int64.*Scale"):
        augment(np.arange(6).reshape(3, 2))
    for one in ({"a": np.zeros((2, 3))}, [[0.0, 1.0]]):
        with pytest.raises(TypeError, match="`x` must be one array or tensor"):
            augment(one)


def test_each_layer_draws_for_itself():
    made = kf.augmentation("image-light", seed=3).layers
    assert [one.seed for one in made] == [3, 4]


def test_what_cannot_be_mixed_is_refused():
    x, y = batch()
    augment = kf.augmentation("image-cutmix")
    with pytest.raises(ValueError, match="`y` must be one-hot labels"):
        augment(x, y.argmax(1))
    with pytest.raises(ValueError, match="`y` must be one-hot labels"):
        augment(x)
    with pytest.raises(ValueError, match="`sample_weight` must be None"):
        augment(x, y, np.ones(6))
    with pytest.raises(ValueError, match="Batch the dataset before it is mapped"):
        augment(x[0], y[0])


def test_it_is_for_a_pydataset():
    class Data(keras.utils.PyDataset):
        def __init__(self):
            super().__init__()
            self.augment = kf.augmentation("digits", seed=0)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return self.augment(*batch(index))

    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse", run_eagerly=True)
    history = model.fit(Data(), epochs=1, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"][0])
