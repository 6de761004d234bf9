"""States, evidence and advice, from curves whose state is known by construction."""

import json

import numpy as np
import pytest

from keras_fitkit.monitoring.advice import ADVICE, Facts, advice_for
from keras_fitkit.monitoring.curves import half_epoch
from keras_fitkit.monitoring.diagnosis import MEANING, diagnose_curves

EPOCHS = np.arange(60.0)
FALLING = 0.2 + 0.8 * np.exp(-EPOCHS / 6)


def noisy(values, scale=0.004, seed=0):
    return values + np.random.default_rng(seed).normal(scale=scale, size=len(values))


RISE = 0.05 * np.maximum(EPOCHS - 30, 0)


def decay(tau, floor=0.2):
    return floor + 0.8 * np.exp(-EPOCHS / tau)


CASES = {
    "overfitting": (
        np.exp(-EPOCHS / 8),
        FALLING + 0.01 * np.maximum(EPOCHS - 20, 0),
        None,
    ),
    "diverging": (FALLING + RISE, FALLING + RISE + 0.1, None),
    "validation_easier": (FALLING, 0.7 * FALLING, None),
    "underfitting": (0.97 - 0.02 * np.exp(-EPOCHS / 9), np.full(60, 0.99), 1.0),
    "undertrained": (1 - EPOCHS / 80, 1.02 - EPOCHS / 80, 1.0),
    "plateau": (decay(3), decay(3, floor=0.25), 1.0),
    "healthy": (decay(14), decay(14, floor=0.3), 1.0),
}


@pytest.mark.parametrize("state", CASES)
def test_each_state_is_told_from_curves_made_for_it(state):
    train, validation, constant = CASES[state]
    verdict = diagnose_curves(
        noisy(train), noisy(validation, seed=1), constant=constant
    )
    assert verdict.state == state
    texts = [remedy.text for remedy in verdict.advice]
    assert texts[: len(ADVICE[state])] == [remedy.text for remedy in ADVICE[state]]


@pytest.mark.parametrize("state", CASES)
def test_a_score_is_judged_like_the_loss_it_mirrors(state):
    train, validation, _ = CASES[state]
    train, validation = noisy(train), noisy(validation, seed=1)
    by_loss = diagnose_curves(train, validation)
    # The same curves upside down; the offset keeps relative sizes what they were.
    by_score = diagnose_curves(-train, -validation, monitor="auc", mode="max")
    assert by_score.state == by_loss.state
    assert by_score.since_epoch == by_loss.since_epoch
    np.testing.assert_allclose(by_score.curves.gap, by_loss.curves.gap)


def test_overfitting_began_at_the_minimum_of_validation():
    train, validation, _ = CASES["overfitting"]
    verdict = diagnose_curves(train, validation)
    assert abs(verdict.since_epoch - int(np.argmin(validation))) <= 2
    assert verdict.evidence["best_epoch"] == verdict.since_epoch + 1
    assert verdict.evidence["gap_last"] == pytest.approx(validation[-1] - train[-1])
    assert verdict.evidence["flagged_epoch"] > verdict.since_epoch + 1


def test_severity_follows_the_rise():
    train = np.exp(-EPOCHS / 8)
    base = 0.3 + 0.7 * np.exp(-EPOCHS / 4)
    rises = {"mild": 0.08, "moderate": 0.2, "severe": 1.0}
    for severity, rise in rises.items():
        validation = base + rise * 0.3 * np.maximum(EPOCHS - 25, 0) / 34
        assert diagnose_curves(train, validation).severity == severity


def test_validation_that_recovers_is_no_longer_overfitting():
    train = np.exp(-EPOCHS / 8)
    bump = 0.3 * np.exp(-(((EPOCHS - 30) / 6) ** 2))
    verdict = diagnose_curves(train, 0.3 + 0.7 * np.exp(-EPOCHS / 12) + bump)
    assert verdict.state != "overfitting"
    assert "recovered" in verdict.evidence


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_epochs_are_unknown_with_the_number(count):
    values = FALLING[:count]
    verdict = diagnose_curves(values, values)
    assert verdict.state == "unknown"
    if count:
        assert f"only {count} epoch" in verdict.summary


def test_no_finite_validation_is_unknown_and_says_what_to_pass():
    verdict = diagnose_curves(FALLING, np.full(60, np.nan))
    assert verdict.state == "unknown"
    assert "validation_data" in verdict.summary


def test_nan_loss_is_diverging_since_the_first_nan():
    train = FALLING.copy()
    train[40:] = np.nan
    verdict = diagnose_curves(train, FALLING)
    assert (verdict.state, verdict.since_epoch) == ("diverging", 40)


def test_nan_everywhere_is_diverging_since_the_first_epoch():
    verdict = diagnose_curves(np.full(9, np.nan), np.full(9, np.nan))
    assert (verdict.state, verdict.since_epoch) == ("diverging", 0)


def test_single_nan_epochs_are_left_out():
    train, validation, _ = CASES["overfitting"]
    holes = validation.copy()
    holes[::7] = np.nan
    assert diagnose_curves(train, holes).state == "overfitting"


def test_without_the_constant_predictor_skill_is_none_with_a_reason():
    verdict = diagnose_curves(*CASES["healthy"][:2])
    assert verdict.evidence["skill"] is None
    assert "not known (the run did not record it)" in verdict.render()


def test_skill_is_the_error_removed_beyond_the_constant_predictor():
    verdict = diagnose_curves(np.full(10, 0.5), np.full(10, 0.5), constant=2.0)
    assert verdict.evidence["skill"] == pytest.approx(1 - 0.5 / 2.0)


def test_remedies_of_over_and_underfitting_are_not_swapped():
    over = " ".join(remedy.text.lower() for remedy in ADVICE["overfitting"])
    under = " ".join(remedy.text.lower() for remedy in ADVICE["underfitting"])
    for cure in ("more training data", "penalty on the weights", "dropout after"):
        assert cure in over
        assert cure not in under
    for cure in ("more capacity", "less regularization", "features"):
        assert cure in under
        assert cure not in over
    assert "more epochs" in ADVICE["undertrained"][0].text.lower()


@pytest.mark.parametrize("state", ADVICE)
def test_every_call_in_the_advice_is_a_call_that_exists(state):
    import keras

    import keras_fitkit as kf

    for remedy in ADVICE[state]:
        call = remedy.call
        if call.startswith(("kf.", "keras.")) and "(x_train" not in call:
            eval(call, {"kf": kf, "keras": keras})


def test_every_state_has_a_meaning_and_advice():
    assert set(MEANING) == set(ADVICE) >= set(CASES)


def test_a_wide_gap_is_pointed_out_even_when_validation_does_not_rise():
    train = 0.01 + np.exp(-EPOCHS / 3)
    validation = 0.5 + np.exp(-EPOCHS / 3)
    verdict = diagnose_curves(train, validation)
    assert verdict.state == "plateau"
    assert "gap is wide" in verdict.advice[-1].text


def test_an_easier_validation_set_seen_by_the_running_mean_may_be_dropout():
    verdict = diagnose_curves(FALLING, 0.7 * FALLING, honest=False)
    assert "dropout" in verdict.advice[0].text


def test_report_is_text_json_and_escaped_html():
    train, validation, _ = CASES["overfitting"]
    verdict = diagnose_curves(train, validation, monitor="<loss>")
    text = verdict.render()
    assert str(verdict) == text
    assert "overfitting since epoch" in text
    assert "kf.EarlyStopping(patience=5" in text
    plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert plain["state"] == "overfitting"
    assert plain["evidence"]["best_epoch"] == verdict.evidence["best_epoch"]
    page = verdict._repr_html_()
    assert "&lt;loss&gt;" in page
    assert "<loss>" not in page
    assert "<Diagnosis of <loss>: overfitting" in repr(verdict)


def test_half_epoch_moves_a_running_mean_to_the_end_of_its_epoch():
    running = np.array([4.0, 2.0, 1.0])
    # Halfway to the next mean; the last goes on by half of its last ratio.
    np.testing.assert_allclose(half_epoch(running), [3.0, 1.5, 1.0 * np.sqrt(0.5)])


def test_half_epoch_keeps_a_positive_error_positive_and_a_score_below_1():
    assert half_epoch(np.array([2.0, 0.1]))[-1] > 0
    assert half_epoch(np.array([0.5, 0.98]), "max")[-1] < 1


def test_half_epoch_of_negative_values_is_linear():
    np.testing.assert_allclose(half_epoch(np.array([-1.0, -3.0])), [-2.0, -4.0])


def test_half_epoch_of_one_epoch_is_what_there_is():
    np.testing.assert_array_equal(half_epoch(np.array([2.0])), [2.0])


def test_half_epoch_comes_closer_to_the_clean_curve_than_the_running_mean():
    steps = 0.3 + np.exp(-np.arange(2000) / 400)  # 20 epochs of 100 steps
    clean = steps[99::100]
    running = steps.reshape(20, 100).mean(axis=1)
    raw = np.abs(running - clean).max()
    assert np.abs(half_epoch(running) - clean).max() < 0.2 * raw


def test_half_epoch_of_a_score_stays_within_0_and_1():
    assert half_epoch(np.array([0.9, 1.0]), "max").max() <= 1
    assert half_epoch(np.array([0.5, 0.0]), "max").min() >= 0


GOOD_RUNS = {
    "accuracy": 0.989 - 0.038 * np.exp(-EPOCHS / 8),
    "loss": 100 + 1 / (EPOCHS + 1),
}


@pytest.mark.parametrize("monitor", GOOD_RUNS)
def test_without_the_constant_predictor_no_run_is_called_underfitting(monitor):
    values = GOOD_RUNS[monitor]
    mode = "max" if monitor == "accuracy" else "min"
    verdict = diagnose_curves(values, values, monitor=monitor, mode=mode)
    assert verdict.state in ("plateau", "healthy", "undertrained")


def test_an_accuracy_is_judged_by_its_error_and_shown_as_it_is():
    train = 0.994 - 0.067 * np.exp(-EPOCHS / 12)
    verdict = diagnose_curves(train, train - 0.002, monitor="accuracy", mode="max")
    assert verdict.since_epoch is None or verdict.since_epoch > 20
    assert verdict.evidence["train_last"] == pytest.approx(train[-1])
    assert verdict.evidence["validation_last"] == pytest.approx(train[-1] - 0.002)
    assert 0.9 < verdict.evidence["validation_best"] < 0.994
    np.testing.assert_allclose(verdict.curves.gap, np.full(60, 0.002))


def test_a_score_and_the_error_it_mirrors_have_one_state():
    for state in ("overfitting", "diverging", "healthy", "plateau"):
        train, validation, _ = CASES[state]
        train, validation = noisy(train) / 4 + 0.1, noisy(validation, seed=1) / 4 + 0.1
        score = diagnose_curves(1 - train, 1 - validation, monitor="auc", mode="max")
        assert score.state == diagnose_curves(train, validation).state == state


def test_a_perfect_accuracy_that_loses_a_row_is_no_divergence():
    train, validation = np.ones(60), np.ones(60)
    train[-4:], validation[-4:] = 0.9995, 0.999
    verdict = diagnose_curves(train, validation, monitor="accuracy", mode="max")
    assert verdict.state == "plateau"


def test_validation_that_turns_nan_is_diverging_since_the_first_nan():
    validation = FALLING[:30] + 0.01
    validation[15:] = np.nan
    verdict = diagnose_curves(FALLING[:30], validation)
    assert (verdict.state, verdict.since_epoch) == ("diverging", 15)
    assert "val_loss is NaN since epoch 16" in verdict.summary


def test_validation_that_ends_after_gaps_is_judged_with_a_note():
    validation = FALLING[:30] + 0.01
    validation[::2] = np.nan
    for count in (30, 29):
        notes = diagnose_curves(FALLING[:count], validation[:count], constant=1.0).notes
        assert notes == ()
    validation[15:] = np.nan
    verdict = diagnose_curves(FALLING[:30], validation)
    assert verdict.state != "diverging"
    assert "val_loss is NaN or absent since epoch 15" in verdict.notes[0]


def test_one_missing_last_validation_is_a_note():
    validation = FALLING + 0.01
    validation[-1] = np.nan
    verdict = diagnose_curves(FALLING, validation)
    assert verdict.state != "diverging"
    assert "since epoch 60" in verdict.notes[0]


@pytest.mark.parametrize("constant", [4e-8, 0.0, -1.0])
def test_a_constant_that_measures_nothing_gives_no_skill_and_says_so(constant):
    verdict = diagnose_curves(FALLING, FALLING + 0.01, constant=constant)
    assert verdict.evidence["skill"] is None
    assert verdict.state != "underfitting"
    assert "is no measure for training's" in verdict.notes[0]
    assert "not known (see the note)" in verdict.render()


def test_two_diagnoses_can_be_compared():
    first, second = (diagnose_curves(FALLING, FALLING) for _ in range(2))
    assert first == first
    assert first != second
    assert first.curves != second.curves
    assert len({first, second}) == 2


def test_a_run_too_short_for_the_rule_is_not_called_a_plateau():
    """Early stopping with patience 5 often leaves 6 epochs."""
    train = [0.60, 0.55, 0.50, 0.45, 0.41, 0.38]
    validation = [0.68, 0.69, 0.70, 0.71, 0.73, 0.75]
    verdict = diagnose_curves(train, validation, constant=0.69)
    assert verdict.state == "unknown"
    assert "validation got worse while training improved" in verdict.summary


FLOOR = 0.02 + 0.68 * np.exp(-EPOCHS / 4)


def test_a_wiggle_of_a_training_loss_on_its_floor_is_no_divergence():
    train = FLOOR.copy()
    train[-1] = 0.025
    assert diagnose_curves(train, 0.5 + 0.3 * FLOOR).state != "diverging"


@pytest.mark.parametrize(("floor", "limit"), [(0.02, 0), (0.3, 1), (0.5, 1)])
def test_noise_on_a_floor_is_no_divergence(floor, limit):
    rng = np.random.default_rng(7)
    clean = floor + (0.9 - floor) * np.exp(-EPOCHS / 4)
    states = [
        diagnose_curves(
            clean * np.exp(rng.normal(scale=0.1, size=60)),
            0.6 + 0.2 * FLOOR + rng.normal(scale=0.01, size=60),
        ).state
        for _ in range(40)
    ]
    assert states.count("diverging") <= limit


def test_a_rise_of_the_last_epochs_alone_is_too_short_to_tell_divergence():
    train, validation = FALLING.copy(), FALLING + 0.1
    train[-2:] = validation[-2:] = 2.0
    verdict = diagnose_curves(train, validation)
    assert verdict.state == "unknown"
    assert "too short to tell divergence from a spike" in verdict.summary
    assert 'plot("curves.png")' in verdict.advice[0].call
    train[-4:] = validation[-4:] = 2.0
    assert diagnose_curves(train, validation).state == "diverging"


def test_validation_that_rises_while_training_is_flat_is_no_plateau():
    train = np.maximum(FALLING, 0.4)
    validation = 0.5 + np.exp(-EPOCHS / 3) + 0.02 * np.maximum(EPOCHS - 20, 0)
    verdict = diagnose_curves(train, validation)
    assert verdict.state == "unknown"
    rise = 100 * verdict.evidence["validation_rise"]
    assert f"validation is {rise:.0f} % above its best" in verdict.summary
    assert "while training stood still" in verdict.summary


def test_what_another_rule_lets_pass_is_unknown_with_the_numbers():
    train, validation, _ = CASES["overfitting"]

    def never(train, validation):
        return False

    verdict = diagnose_curves(train, validation, rule=never)
    assert verdict.state == "unknown"
    assert "while training improved by 9" in verdict.summary
    assert "rule 'never' did not flag it" in verdict.summary
    assert 'rule="auto"' in [remedy.call for remedy in verdict.advice]
    assert "validation rows" in verdict.advice[-1].text


def test_a_score_that_falls_is_told_as_its_error():
    train, validation, _ = CASES["overfitting"]
    arguments = {"monitor": "auc", "mode": "max", "rule": lambda train, val: False}
    verdict = diagnose_curves(1 - train / 2, 1 - validation / 2, **arguments)
    assert "validation's error (1 - score) is" in verdict.summary
    assert "error (1 - score) above its best" in verdict.render()
    verdict = diagnose_curves(-train, -validation, **arguments)
    assert "% below its best while" in verdict.summary
    assert "validation below its best (smoothed)" in verdict.render()


def test_a_plateau_of_validation_alone_says_what_each_curve_does():
    verdict = diagnose_curves(
        np.exp(-EPOCHS / 20), 0.5 + np.exp(-EPOCHS / 3) + EPOCHS / 1e4
    )
    assert verdict.state == "plateau"
    assert "training still improves by 6" in verdict.summary
    assert "validation is flat" in verdict.summary
    assert "both curves are flat" not in verdict.summary


def test_validation_that_still_improves_is_no_plateau():
    verdict = diagnose_curves(np.full(60, 0.5), 1 - EPOCHS / 200)
    assert verdict.state == "healthy"
    assert "training is flat and validation still improves by" in verdict.summary


def draw(rows, seed, score=False):
    """24 epochs measured on the same few rows: both sets are equally hard."""
    rng = np.random.default_rng(seed)
    if score:
        level = 0.2
        train, validation = rng.binomial(rows, level, size=2) / rows + 0.01
    else:
        train, validation = rng.exponential(size=(2, rows)).mean(axis=1)
    noise = np.exp(rng.normal(scale=0.01, size=(2, 24)))
    return train * noise[0], validation * noise[1]


@pytest.mark.parametrize("score", [False, True])
def test_a_small_validation_set_that_is_easier_by_luck_is_no_leak(score):
    def easier(rows):
        found = 0
        for seed in range(60):
            train, validation = draw(40, seed, score)
            if score:
                train, validation = 1 - train, 1 - validation
            more = {"monitor": "accuracy", "mode": "max"} if score else {}
            verdict = diagnose_curves(train, validation, rows=rows, **more)
            found += verdict.state == "validation_easier"
        return found

    # Rows unknown: about every second draw; known: 2 standard errors, one-sided.
    assert easier((None, None)) > 18
    assert easier((40, None)) <= 5


def test_rows_are_in_the_evidence_and_many_rows_show_a_leak():
    verdict = diagnose_curves(FALLING, 0.7 * FALLING, rows=(512, 400))
    assert verdict.state == "validation_easier"
    assert verdict.evidence["train_rows"] == 512
    assert "by chance" not in verdict.advice[-1].text
    assert "rows of validation                             400" in verdict.render()
    unknown = diagnose_curves(FALLING, 0.7 * FALLING)
    assert "Few validation rows do the same by chance" in unknown.advice[-1].text


def test_advice_carries_the_numbers_of_the_run():
    facts = Facts(epochs=30, optimizer=("Adam", 0.01), wide_gap=True)
    more, faster = advice_for("undertrained", facts)
    assert more.call.endswith("epochs=60)")
    assert faster.call == "keras.optimizers.Adam(learning_rate=0.03)"
    assert "warmup_target=0.0033" in advice_for("diverging", facts)[0].call
    assert advice_for("undertrained")[1].call == ""
    assert advice_for("healthy", facts) == ADVICE["healthy"]
    assert "improve validation" in advice_for("plateau", facts)[-1].text


def test_a_share_that_rounds_to_zero_has_no_sign():
    falling = np.full(20, 0.5) + 1e-6 * np.arange(20)
    assert "-0.0 %" not in diagnose_curves(falling, falling).render()


def test_few_epochs_are_told_without_a_number_that_would_do():
    train = [0.60, 0.55, 0.50, 0.45, 0.41, 0.38]
    verdict = diagnose_curves(train, [0.68, 0.69, 0.70, 0.71, 0.73, 0.75])
    text = "6 epochs are too few to tell overfitting from noise in this run"
    assert text in verdict.summary
