"""The shapes of zeros, on arrays small enough to write down."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from keras_fitkit._core import targets
from keras_fitkit.pruning import patterns

RNG = np.random.default_rng(5)


def target_of(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    return targets.find(model)[0][0]


DENSE = target_of(layers.Dense(6, name="dense"), (8,))
CONV = target_of(layers.Conv2D(6, 3, name="conv"), (9, 9, 8))
TRANSPOSE = target_of(layers.Conv2DTranspose(6, 3, name="transpose"), (9, 9, 8))
EVERY = [DENSE, CONV, TRANSPOSE]
every_target = pytest.mark.parametrize(
    "target", EVERY, ids=["dense", "conv", "transpose"]
)


def scores_of(target):
    return np.abs(np.random.default_rng(2).normal(size=target.shape))


@every_target
@pytest.mark.parametrize("text", ["2:4", "4:8", "1:4"])
def test_n_of_m_along_the_input_channels(target, text):
    keep, group = map(int, text.split(":"))
    pattern = patterns.parse(text)
    assert pattern.sparsity == 1 - keep / group
    scores = scores_of(target)
    zeros = int(target.size * pattern.sparsity)
    mask = patterns.choose(pattern, target, scores, zeros)
    runs = target.matrices(mask).transpose(0, 2, 1).reshape(-1, group)
    values = target.matrices(scores).transpose(0, 2, 1).reshape(-1, group)
    assert (runs.sum(axis=1) == keep).all()
    for run, value in zip(runs, values, strict=True):
        assert set(np.flatnonzero(run)) == set(np.argsort(value)[-keep:])


@every_target
def test_n_of_m_on_the_way_takes_only_what_it_may(target):
    pattern = patterns.parse("2:4")
    mask = patterns.choose(pattern, target, scores_of(target), target.size // 4)
    assert (~mask).sum() == target.size // 4
    runs = target.matrices(mask).transpose(0, 2, 1).reshape(-1, 4)
    assert (runs.sum(axis=1) >= 2).all()


@given(st.integers(0, 10_000))
def test_n_of_m_never_lets_a_zero_come_back(seed):
    """Pruned weights are zero, so they are among the lowest of their run again."""
    pattern = patterns.parse("2:4")
    rng = np.random.default_rng(seed)
    weight = np.abs(rng.normal(size=DENSE.shape))
    mask = np.ones(DENSE.shape, bool)
    for share in (0.1, 0.25, 0.4, 0.5):
        weight = np.where(mask, weight + rng.random(DENSE.shape), 0)
        new = patterns.choose(pattern, DENSE, weight, round(DENSE.size * share))
        assert not (new & ~mask).any()
        mask = new


@every_target
def test_blocks_of_channels(target):
    pattern = patterns.parse(("block", (4, 3)))
    scores = scores_of(target)
    units = target.size // 12
    mask = patterns.choose(pattern, target, scores, units // 2)
    cube, values = target.matrices(mask), target.matrices(scores)
    means = {}
    for place in range(cube.shape[0]):
        for row in range(0, 8, 4):
            for column in range(0, 6, 3):
                block = cube[place, row : row + 4, column : column + 3]
                assert block.all() or not block.any()
                value = values[place, row : row + 4, column : column + 3].mean()
                means[value] = bool(block.all())
    ordered = [means[value] for value in sorted(means)]
    assert ordered == [False] * (units // 2) + [True] * (units - units // 2)


@every_target
@pytest.mark.parametrize(("name", "axis"), [("row", 1), ("column", 2)])
def test_rows_are_input_channels_and_columns_are_outputs(target, name, axis):
    pattern = patterns.parse(name)
    mask = target.matrices(patterns.choose(pattern, target, scores_of(target), 2))
    others = tuple(i for i in range(3) if i != axis)
    whole = mask.all(axis=others)
    assert (whole | ~mask.any(axis=others)).all()
    assert (~whole).sum() == 2
    means = target.matrices(scores_of(target)).mean(axis=others)
    assert set(np.flatnonzero(~whole)) == set(np.argsort(means)[:2])


@every_target
def test_unstructured_takes_the_lowest(target):
    scores = scores_of(target)
    mask = patterns.choose(patterns.parse("unstructured"), target, scores, 10)
    assert set(scores[~mask]) == set(np.sort(scores.ravel())[:10])


@pytest.mark.parametrize(
    ("value", "target", "text"),
    [
        ("3:5", CONV, r"divides the 8 input channels of conv/kernel"),
        (("block", (3, 3)), DENSE, r"divides the 8 input channels of dense/kernel"),
        (("block", (4, 4)), DENSE, r"divides the 6 output channels of dense/kernel"),
    ],
)
def test_a_pattern_that_does_not_divide_names_layer_and_size(value, target, text):
    with pytest.raises(ValueError, match=text):
        patterns.parse(value).check(target)


@pytest.mark.parametrize("value", [3, None, 0.5])
def test_a_pattern_of_another_kind_is_refused(value):
    with pytest.raises(TypeError, match="`pattern` must be 'unstructured'"):
        patterns.parse(value)
