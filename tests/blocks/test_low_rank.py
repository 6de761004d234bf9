"""LowRankDense and LowRankConv2D, and how they are made from trained layers."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_fitkit as kf
from keras_fitkit.blocks.low_rank import conv_factors, factors
from tests.blocks.cases import array

b = kf.blocks


def images():
    return np.random.default_rng(0).normal(size=(2, 9, 6, 4)).astype("float32")


def conv(**settings):
    layer = keras.layers.Conv2D(
        6,
        (3, 2),
        kernel_initializer="glorot_normal",
        bias_initializer="normal",
        **settings,
    )
    layer.build((None, None, None, 4))
    return layer


# full ranks: min(3 * 2 * 4, 6) and min(3 * 4, 2 * 6)
@pytest.mark.parametrize(("scheme", "full"), [("channel", 6), ("spatial", 12)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"strides": 2, "padding": "same"}, {"activation": "relu", "use_bias": False}],
    ids=str,
)
def test_full_rank_is_the_convolution(scheme, full, settings):
    layer = conv(**settings)
    made = b.LowRankConv2D.from_layer(layer, full, scheme=scheme)
    np.testing.assert_allclose(array(made(images())), array(layer(images())), atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_full_rank_is_the_dense_layer(use_bias):
    layer = keras.layers.Dense(5, "relu", use_bias=use_bias, bias_initializer="normal")
    layer.build((None, 7))
    data = np.random.default_rng(0).normal(size=(3, 7)).astype("float32")
    made = b.LowRankDense.from_layer(layer, 5, name="mine")
    assert made.name == "mine"
    np.testing.assert_allclose(array(made(data)), array(layer(data)), atol=1e-5)


def test_from_layer_keeps_the_dtype_policy():
    layer = keras.layers.Dense(5, dtype="mixed_bfloat16")
    layer.build((None, 7))
    assert b.LowRankDense.from_layer(layer, 2).dtype_policy.name == "mixed_bfloat16"


@given(rank=st.integers(1, 5), seed=st.integers(0, 9))
def test_factors_lose_the_small_singular_values(rank, seed):
    matrix = np.random.default_rng(seed).normal(size=(7, 5))
    first, second = factors(matrix, rank)
    assert (first.shape, second.shape) == ((7, rank), (rank, 5))
    sizes = np.linalg.svd(matrix, compute_uv=False)
    error = np.square(matrix - first @ second).sum()
    assert error == pytest.approx(np.square(sizes[rank:]).sum(), abs=1e-9)
    np.testing.assert_allclose(  # both have the same scale
        np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1)
    )


@given(seed=st.integers(0, 9), scheme=st.sampled_from(["channel", "spatial"]))
def test_error_falls_with_the_rank(seed, scheme):
    kernel = np.random.default_rng(seed).normal(size=(3, 2, 4, 6))
    errors = []
    for rank in range(1, 7):
        down, up = conv_factors(kernel, rank, scheme)
        together = (
            np.einsum("hwir,ro->hwio", down, up[0, 0])
            if scheme == "channel"
            else np.einsum("hir,wro->hwio", down[:, 0], up[0])
        )
        errors.append(np.square(kernel - together).sum())
    assert errors == sorted(errors, reverse=True)


def test_a_rank_above_the_full_one_is_named():
    with pytest.raises(ValueError, match=r"Layer 'd': `rank` must be at most the full"):
        b.LowRankDense(10, 8, name="d").build((None, 4))
    with pytest.raises(ValueError, match=r"Layer 'c': `rank` must be at most the full"):
        b.LowRankConv2D(16, 1, 8, name="c").build((None, 4, 4, 2))


def test_from_layer_says_what_it_takes():
    dense, unbuilt = keras.layers.Dense(4), keras.layers.Conv2D(4, 3)
    with pytest.raises(
        TypeError, match=r"`layer` must be a built keras\.layers\.Conv2D"
    ):
        b.LowRankConv2D.from_layer(dense, 2)
    with pytest.raises(
        ValueError, match=r"`layer` must be a built keras\.layers\.Conv2D"
    ):
        b.LowRankConv2D.from_layer(unbuilt, 2)
    with pytest.raises(ValueError, match=r"groups=1 and dilation_rate=1"):
        b.LowRankConv2D.from_layer(conv(dilation_rate=2), 2)
    dense.build((None, 3))
    with pytest.raises(ValueError, match=r"`rank` must be an integer in \[1, 3\]"):
        b.LowRankDense.from_layer(dense, 4)
