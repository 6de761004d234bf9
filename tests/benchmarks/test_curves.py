"""The benchmark's claims: true labels, rivals that do not look ahead, scores."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _curves import NEGATIVE, NO_ONSET, POSITIVE, draw_curves
from _real_runs import AMBIGUOUS, onset_of
from _rivals import RIVALS
from _scoring import NEVER, first_flags, score, wilson
from _states import STATES, draw_states

EPOCHS = (20, 50, 100)


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("kind", POSITIVE)
def test_a_positive_ends_well_above_its_onset(kind, epochs):
    curves = draw_curves(kind, 100, epochs, seed=3)
    lowest = curves.true_validation[np.arange(100), curves.onset]
    assert np.all(curves.true_validation[:, -1] > 1.01 * lowest)
    assert np.all(np.diff(curves.true_train, axis=1) < 0)


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("kind", [kind for kind in NEGATIVE if kind != "diverge"])
def test_a_negative_does_not_rise(kind, epochs):
    curves = draw_curves(kind, 100, epochs, seed=3)
    lowest = curves.true_validation.min(axis=1)
    assert np.all(curves.onset == NO_ONSET)
    assert np.all(curves.true_validation[:, -1] < 1.01 * lowest)


def test_the_same_seed_gives_the_same_curves_and_another_seed_others():
    first, again, other = (draw_curves("overfit", 5, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.validation, again.validation)
    assert not np.any(first.validation == other.validation)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_never_looks_ahead(name):
    curves = draw_curves("overfit_noisy", 20, 60, seed=5)
    whole = RIVALS[name](curves.train, curves.validation)
    for seen in (5, 19, 20, 37):
        part = RIVALS[name](curves.train[:, :seen], curves.validation[:, :seen])
        np.testing.assert_array_equal(part, whole[:, :seen])


def test_score_counts_an_early_flag_against_precision_and_recall():
    #                  hit  late hit  too early  missed  right  false alarm
    flagged = np.array([10, 30, 5, NEVER, NEVER, 7])
    onset = np.array([12, 10, 10, 10, NO_ONSET, NO_ONSET])
    result = score(flagged, onset, tolerance=3)
    assert (result.hits, result.early, result.missed) == (2, 1, 1)
    assert (result.false_alarms, result.negatives) == (1, 2)
    assert result.precision == 2 / (2 + 1 + 1)
    assert result.recall == 2 / 4
    assert result.f1 == 2 * 0.5 * 0.5 / (0.5 + 0.5)
    assert result.delay == np.median([10 - 12, 30 - 10])


def test_first_flags():
    flags = np.array([[False, True, True], [False, False, False]])
    assert first_flags(flags).tolist() == [1, NEVER]


def test_wilson_interval_of_the_textbook():
    low, high = wilson(0, 10)  # z^2 / (n + z^2) = 3.8415 / 13.8415
    assert low == 0.0
    assert high == pytest.approx(0.27754, abs=1e-5)


@pytest.mark.parametrize(
    ("held_out", "train", "onset"),
    [
        (np.r_[np.linspace(2, 1, 20), np.linspace(1, 1.5, 40)], "falls", 20),
        (np.linspace(2, 1, 60), "falls", NO_ONSET),
        (np.r_[np.linspace(2, 1, 20), np.linspace(1, 1.03, 40)], "falls", AMBIGUOUS),
        (np.r_[np.linspace(2, 1, 50), np.linspace(1, 1.5, 10)], "falls", AMBIGUOUS),
        (np.r_[np.linspace(2, 1, 20), np.linspace(1, 1.5, 40)], "rises", NO_ONSET),
    ],
    ids=["turns", "falls", "hardly rises", "turns late", "diverges"],
)
def test_the_label_of_a_real_run(held_out, train, onset):
    fall = np.linspace(1, 0, 60)
    found = onset_of(held_out, fall if train == "falls" else held_out)
    assert found == pytest.approx(onset, abs=1)


def test_states_are_drawn_evenly_and_fully():
    runs, drawn, between = draw_states(10, 50, seed=4)
    counts = [sum(run.state == state for run in runs) for state in STATES]
    assert counts == [10] * len(STATES)
    assert 0 < between < drawn
