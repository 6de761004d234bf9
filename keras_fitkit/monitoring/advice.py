"""What to do about a state, and the call that does it.

The remedies of overfitting and of underfitting are opposites, and course texts swap
them: more data, a penalty, dropout and early stopping cure OVERFITTING; more capacity,
better features, more epochs and LESS regularization cure UNDERFITTING. Whether one of
them helps on the data at hand, only a trial tells.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Remedy:
    """One piece of advice.

    Attributes:
        text: what to do and why.
        call: code that does it, or "" where there is none.

    Raises:
        Nothing: a plain record.

    Example:
        >>> Remedy("Clip the gradients.", "keras.optimizers.Adam(clipnorm=1.0)").call
        'keras.optimizers.Adam(clipnorm=1.0)'
    """

    text: str
    call: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the advice depends on beside the state.

    Attributes:
        honest: as in `Curves`.
        wide_gap: whether the gap is a large part of the validation value.
        epochs: how many the run had.
        optimizer: as in `Curves`.
        rows_known: whether the rows were counted that training was measured on.
        rule: name of the rule that judged.
        unclear: whether there are epochs enough, and still no state.
    """

    honest: bool = True
    wide_gap: bool = False
    epochs: int = 0
    optimizer: tuple[str, float] | None = None
    rows_known: bool = False
    rule: str = "auto"
    unclear: bool = False


_STOP = Remedy(
    "Stop earlier and keep the best weights.",
    "kf.EarlyStopping(patience=5, restore_best_weights=True)",
)

ADVICE: dict[str, tuple[Remedy, ...]] = {
    "healthy": (Remedy("Nothing to mend. Keep the best weights.", _STOP.call),),
    "overfitting": (
        _STOP,
        Remedy(
            "More training data, or augmentation where that is cheap.",
            "keras.layers.RandomTranslation(0.1, 0.1)",
        ),
        Remedy(
            "Dropout after the activations of hidden layers.",
            "keras.layers.Dropout(0.3)",
        ),
        Remedy(
            "A penalty on the weights.",
            "keras.layers.Dense(64, kernel_regularizer=keras.regularizers.L2(1e-4))",
        ),
        Remedy("A smaller model: fewer units or layers."),
    ),
    "underfitting": (
        Remedy("More capacity: wider or more layers.", "keras.layers.Dense(256)"),
        Remedy(
            "Features that carry more: scale the inputs, add what is missing.",
            "keras.layers.Normalization()",
        ),
        Remedy("LESS regularization: lower dropout rates and penalties."),
        Remedy("Another optimizer, or another learning rate."),
    ),
    "undertrained": (
        Remedy("More epochs: training is still improving."),
        Remedy(
            "A higher learning rate, 3 times the present one, if the curves fall "
            "smoothly."
        ),
    ),
    "diverging": (
        Remedy(
            "Lower the learning rate to a third of the present one, or warm it up.",
            "keras.optimizers.schedules.CosineDecay("
            "0.0, 1000, warmup_target=1e-3, warmup_steps=100)",
        ),
        Remedy("Clip the gradients.", "keras.optimizers.Adam(clipnorm=1.0)"),
        Remedy(
            "Look for NaN, infinite or unscaled values in the data.",
            "numpy.isfinite(x_train).all()",
        ),
    ),
    "plateau": (
        Remedy(
            "Lower the learning rate when validation stops improving.",
            "keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=5)",
        ),
        Remedy("Or stop: more epochs of the same bring nothing.", _STOP.call),
    ),
    "validation_easier": (
        Remedy("Look for rows of the validation set in the training set (a leak)."),
        Remedy(
            "Look at the split: shuffled, stratified, without one group on both sides?"
        ),
    ),
    "unknown": (),
}
"""The remedies of each state, as far as they are the same for every run."""

RULE_OUT_DROPOUT = Remedy(
    "First rule out dropout: these training values are Keras's running mean, measured "
    "with dropout and augmentation on. Measure them in inference mode.",
    "kf.OverfitMonitor(train_data=(x_train, y_train))",
)
FEW_ROWS = Remedy(
    "Few validation rows do the same by chance, and how many there were is not known "
    "here: take more."
)
WIDE_GAP = Remedy(
    "The gap is wide: regularization or more data may still improve validation.",
    "keras.layers.Dropout(0.3)",
)
LOOK = Remedy("Look at the curves.", 'diagnosis.plot("curves.png")')
DEFAULT_RULE = Remedy("Ask the default rule.", 'rule="auto"')
MORE_ROWS = Remedy("Take more validation rows: their noise hides what happened.")


def advice_for(state: str, facts: Facts | None = None) -> tuple[Remedy, ...]:
    """The remedies of a state, with the numbers of the run in their calls."""
    known = facts or Facts()
    remedies = ADVICE[state]
    if state == "validation_easier":
        first = () if known.honest else (RULE_OUT_DROPOUT,)
        return (*first, *remedies, *(() if known.rows_known else (FEW_ROWS,)))
    if state == "plateau" and known.wide_gap:
        return (*remedies, WIDE_GAP)
    if state == "unknown" and known.unclear:
        other = () if known.rule == "auto" else (DEFAULT_RULE,)
        return (LOOK, *other, MORE_ROWS)
    if state == "undertrained":
        return (_more_epochs(remedies[0], known.epochs), *_faster(remedies[1:], known))
    if state == "diverging":
        return (*_slower(remedies[:1], known), *remedies[1:])
    return remedies


def _more_epochs(remedy: Remedy, epochs: int) -> Remedy:
    if not epochs:
        return remedy
    call = (
        "model.fit(x_train, y_train, validation_data=(x_val, y_val), "
        f"epochs={2 * epochs})"
    )
    return dataclasses.replace(remedy, call=call)


def _faster(remedies: tuple[Remedy, ...], known: Facts) -> tuple[Remedy, ...]:
    if known.optimizer is None:
        return remedies
    name, rate = known.optimizer
    return (
        Remedy(
            f"A higher learning rate than the {rate:.3g} of now, if the curves fall "
            "smoothly.",
            f"keras.optimizers.{name}(learning_rate={3 * rate:.2g})",
        ),
    )


def _slower(remedies: tuple[Remedy, ...], known: Facts) -> tuple[Remedy, ...]:
    if known.optimizer is None:
        return remedies
    rate = known.optimizer[1]
    return (
        Remedy(
            f"Lower the learning rate of {rate:.3g}, or warm it up.",
            "keras.optimizers.schedules.CosineDecay("
            f"0.0, 1000, warmup_target={rate / 3:.2g}, warmup_steps=100)",
        ),
    )
