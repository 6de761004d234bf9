"""Known nets, shrunk exactly; `benchmarks/shrink_zoo.py` takes all families."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from tests.pruning.structural.masking import difference, half_of, masked, without

UNITS = {"MobileNetV3Small": 4872, "EfficientNetV2B0": 15840, "DenseNet121": 10240}


@pytest.mark.tensorflow_only  # the walk is the same; nets this large take minutes
@pytest.mark.parametrize("name", UNITS)
def test_a_family_of_keras_applications(name):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("bias", "beta", "gamma", "moving_mean"):
            noise = 0.1 * rng.normal(size=variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable.value) + noise)
    graph = ChannelGraph(model)
    assert graph.channels == UNITS[name]  # all but the 1000 classes
    assert kf.channel_groups(model).frozen_share == 0
    dropped = half_of(graph, rng)
    small = without(graph, dropped)
    x = rng.uniform(0, 255, size=(1, 32, 32, 3)).astype("float32")
    assert difference(masked(graph, dropped), small, x) < 1e-4
    assert small.count_params() < 0.4 * model.count_params()
