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
        >>> Remedy("More epochs.", "epochs=2 * epochs").call
        'epochs=2 * epochs'
    """

    text: str
    call: str = ""


_STOP = Remedy(
    "Stop earlier and keep the best weights.",
    "kf.EarlyStopping(patience=5, restore_best_weights=True)",
)
_LOWER_RATE = Remedy(
    "Lower the learning rate when validation stops improving.",
    "keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=5)",
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
        Remedy(
            "Another optimizer or learning rate.",
            "keras.optimizers.Adam(learning_rate=1e-3)",
        ),
    ),
    "undertrained": (
        Remedy("More epochs: both curves are still improving.", "epochs=2 * epochs"),
        Remedy(
            "A higher learning rate, if the curves fall smoothly.",
            "keras.optimizers.Adam(learning_rate=3e-3)",
        ),
    ),
    "diverging": (
        Remedy(
            "Lower the learning rate, or warm it up.",
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
        _LOWER_RATE,
        Remedy("Or stop: more epochs of the same bring nothing.", _STOP.call),
    ),
    "validation_easier": (
        Remedy("Look for rows of the validation set in the training set (a leak)."),
        Remedy(
            "Look at the split: shuffled, stratified, without one group on both sides? "
            "A small validation set can also be easier by luck: take a larger one."
        ),
    ),
    "unknown": (),
}

RULE_OUT_DROPOUT = Remedy(
    "First rule out dropout: these training values are Keras's running mean, measured "
    "with dropout and augmentation on. Measure them in inference mode.",
    "kf.OverfitMonitor(train_data=(x_train, y_train))",
)


WIDE_GAP = Remedy(
    "The gap is wide: regularization or more data may still lower validation.",
    "keras.layers.Dropout(0.3)",
)


def advice_for(
    state: str, *, honest: bool = True, wide_gap: bool = False
) -> tuple[Remedy, ...]:
    """The remedies of a state.

    Args:
        state: a `Diagnosis.state`.
        honest: as in `Curves`.
        wide_gap: whether the gap is a large part of the validation value.
    """
    if state == "validation_easier" and not honest:
        return (RULE_OUT_DROPOUT, *ADVICE[state])
    if wide_gap and state in ("healthy", "plateau", "undertrained"):
        return (*ADVICE[state], WIDE_GAP)
    return ADVICE[state]
