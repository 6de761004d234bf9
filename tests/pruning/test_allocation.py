"""How many zeros each weight gets: totals exact, shares as the papers say."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from keras_fitkit._core import targets
from keras_fitkit.pruning import allocation, patterns

MODEL = keras.Sequential(
    [
        keras.Input((10,)),
        layers.Dense(7, name="small"),
        layers.Dense(40, name="wide"),
        layers.Dense(3, name="last"),
    ]
)
TARGETS, _ = targets.find(MODEL)
SIZES = [70, 280, 120]
RNG = np.random.default_rng(4)
SCORES = [
    scale * np.abs(RNG.normal(size=target.shape))
    for target, scale in zip(TARGETS, (1.0, 0.2, 3.0), strict=True)
]
UNSTRUCTURED = patterns.parse("unstructured")


def zeros(name, sparsity, pattern=UNSTRUCTURED, final=None):
    found = allocation.masks(
        name, pattern, TARGETS, SCORES.__getitem__, sparsity, final or sparsity
    )
    return [int((~mask).sum()) for mask in found]


@given(st.floats(0, 0.999))
def test_uniform_is_exact_in_every_weight(sparsity):
    expected = [min(round(size * sparsity), size - 1) for size in SIZES]
    assert zeros("uniform", sparsity) == expected


@pytest.mark.parametrize("name", ["global", "lamp", "erk"])
@given(sparsity=st.floats(0, 0.99))
def test_the_total_is_exact(name, sparsity):
    assert sum(zeros(name, sparsity)) == round(sum(SIZES) * sparsity)


def test_global_takes_the_lowest_of_all():
    everything = np.concatenate([scores.ravel() for scores in SCORES])
    border = np.sort(everything)[235]
    expected = [int((scores < border).sum()) for scores in SCORES]
    assert zeros("global", 0.5) == expected  # 235 of 470
    assert expected[1] > expected[0] > expected[2]  # in the order of their scales


def test_lamp_scores_by_the_papers_equation():
    weight = np.array([3.0, -1.0, 2.0, 0.5])
    found = allocation.lamp_scores(np.abs(weight))
    # Squares 9, 1, 4, .25: each over the sum of those not below it.
    expected = [9 / 9, 1 / (9 + 4 + 1), 4 / (9 + 4), 0.25 / (9 + 4 + 1 + 0.25)]
    np.testing.assert_allclose(found, expected)


def test_lamp_does_not_depend_on_the_scale_of_a_layer():
    found = zeros("lamp", 0.9)
    assert all(gone < size for gone, size in zip(found, SIZES, strict=True))
    alike = [np.abs(np.random.default_rng(1).normal(size=t.shape)) for t in TARGETS]
    plain, scaled = (
        allocation.masks("lamp", UNSTRUCTURED, TARGETS, each.__getitem__, 0.9, 0.9)
        for each in (alike, [a * s for a, s in zip(alike, (1, 4, 16), strict=True)])
    )
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(one, other)


def test_lamp_of_zeros_is_zero_and_of_infinity_stays():
    found = allocation.lamp_scores(np.array([0.0, 0.0, 1.0, np.inf]))
    np.testing.assert_array_equal(found, [0.0, 0.0, 1.0, np.inf])


def test_erk_density_by_the_papers_rule():
    shapes = [(10, 7), (7, 40), (40, 3)]
    density = allocation.erk_density(shapes, 0.2)
    kept = sum(d * np.prod(s) for d, s in zip(density, shapes, strict=True))
    assert kept == pytest.approx(0.2 * 470)
    # None is dense here, so all are in proportion to (in + out) / (in * out).
    ratio = [d / ((a + b) / (a * b)) for d, (a, b) in zip(density, shapes, strict=True)]
    assert ratio == pytest.approx([ratio[0]] * 3)


def test_erk_keeps_small_weights_dense_and_shares_the_rest():
    shapes = [(4, 2), (100, 100), (100, 50)]
    density = allocation.erk_density(shapes, 0.5)
    assert density[0] == 1.0
    sizes = [8, 10_000, 5_000]
    assert sum(d * s for d, s in zip(density, sizes, strict=True)) == pytest.approx(
        0.5 * 15_008
    )


def test_a_dict_rules_its_weights_and_the_others_are_uniform():
    wanted = {"small": 0.2, "last/kernel": 0.8}
    assert zeros(wanted, 0.5) == [round(0.2 * 70), round(0.5 * 280), round(0.8 * 120)]
    # Half way up the schedule each has half of its own.
    halfway = zeros(wanted, 0.25, final=0.5)
    assert halfway == [round(0.1 * 70), round(0.25 * 280), round(0.4 * 120)]


def test_a_dict_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"`allocation` must be.*Did you mean 'small'"):
        allocation.check_matches({"smal": 0.5}, TARGETS)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("unifrm", ValueError, "Did you mean 'uniform'"),
        ({"small": 80}, ValueError, "For 80 % pass 0.8"),
        ({3: 0.5}, TypeError, "from path patterns to sparsities"),
        (0.5, TypeError, "one of 'uniform'"),
    ],
)
def test_what_is_no_allocation_is_refused(value, error, text):
    with pytest.raises(error, match=text):
        allocation.check(value)


def test_global_with_units_of_several_sizes_comes_as_near_as_it_can():
    rows = patterns.parse("row")
    found = zeros("global", 0.5, rows)
    units = [7, 40, 3]  # weights that go with one input channel
    assert all(gone % unit == 0 for gone, unit in zip(found, units, strict=True))
    assert abs(sum(found) - 235) <= max(units) / 2


@pytest.mark.parametrize("name", ["uniform", "global", "lamp"])
def test_n_of_m_comes_out_whole_whatever_shares_the_zeros(name):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(4)])
    found, _ = targets.find(model)
    scores = [np.abs(RNG.normal(size=target.shape)) for target in found]
    pattern = patterns.parse("2:4")
    masks = allocation.masks(name, pattern, found, scores.__getitem__, 0.5, 0.5)
    assert all((m.reshape(-1, 4, m.shape[1]).sum(1) == 2).all() for m in masks)


@pytest.mark.parametrize("name", ["global", "lamp"])
@given(sparsity=st.floats(0, 0.99))
def test_scores_that_can_be_had_again_give_the_same_masks(name, sparsity):
    held, again = (
        allocation.masks(
            name,
            UNSTRUCTURED,
            TARGETS,
            SCORES.__getitem__,
            sparsity,
            sparsity,
            repeatable=repeatable,
        )
        for repeatable in (False, True)
    )
    for one, other in zip(held, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
def test_lamp_takes_the_lowest_lamp_scores_of_all(sparsity):
    everything = np.concatenate(
        [allocation.lamp_scores(scores.ravel()) for scores in SCORES]
    )
    gone = round(everything.size * sparsity)
    expected = everything >= np.sort(everything)[gone]
    found = allocation.masks(
        "lamp", UNSTRUCTURED, TARGETS, SCORES.__getitem__, sparsity, sparsity
    )
    np.testing.assert_array_equal(np.concatenate([m.ravel() for m in found]), expected)


def test_what_is_gone_stays_gone_among_signed_scores():
    scores = [np.where(SCORES[0] > 1.0, -SCORES[0], SCORES[0]), *SCORES[1:]]
    scores[1] = np.where(SCORES[1] < 0.1, -np.inf, SCORES[1])
    found = allocation.masks(
        "lamp", UNSTRUCTURED, TARGETS, scores.__getitem__, 0.6, 0.6
    )
    assert not (found[1] & np.isinf(scores[1])).any()
    assert sum(int((~mask).sum()) for mask in found) == round(0.6 * sum(SIZES))
