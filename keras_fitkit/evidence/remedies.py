"""The remedies that `try_remedies` knows, and which of them a verdict asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.evidence import building
from keras_fitkit.pruning import shrink, widen
from keras_fitkit.regularizers import regularize

BASELINE, EARLY = "baseline", "early-stopping"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One remedy.

    Attributes:
        name: of the remedy.
        text: what it does.
        code: what the user would write.
        change: makes another model of a built one; None leaves the model.
        rate: what the learning rate is multiplied with.
        clipnorm: of the optimizer, or None.
        epochs: what the number of epochs is multiplied with.
        free: whether it needs no run of its own.
    """

    name: str
    text: str
    code: str
    change: Callable[[Any], Any] | None = None
    rate: float = 1.0
    clipnorm: float | None = None
    epochs: int = 1
    free: bool = False

    def make(self, build: Callable[[], Any], row: Any) -> Any:
        """A fresh, compiled model with this remedy.

        Raises:
            TypeError, ValueError: it cannot be had for this model.
        """
        original = build()
        if self.change is None:
            if self.rate == 1.0 and self.clipnorm is None:
                return original
            return building.compile_like(
                original, original, rate=self.rate, clipnorm=self.clipnorm
            )
        made = self.change(building.built(original, row))
        if not hasattr(made, "compiled"):
            allowed = "functions that take a model and return one"
            raise TypeError(arguments.message("remedies", allowed, made))
        return made if made.compiled else building.compile_like(made, original)


def _smaller(model: Any) -> Any:
    return building.fresh(shrink(model, 0.5))


def _wider(model: Any) -> Any:
    return building.fresh(widen(model, 2.0))


_COMPILE = "model.compile(...)  # as before"
_NEW = "model = keras.models.clone_model({})  # new weights"
CATALOGUE = {
    one.name: one
    for one in (
        Candidate(
            EARLY,
            "stop where validation was best",
            "callbacks=[kf.EarlyStopping(patience=5, restore_best_weights=True)]",
            free=True,
        ),
        Candidate(
            "dropout",
            "dropout 0.3 after hidden layers, 0.1 of channels after convolutions",
            f'model = kf.regularize(model, "dropout-medium")\n{_COMPILE}',
            lambda model: regularize(model, "dropout-medium"),
        ),
        Candidate(
            "l2",
            "a penalty of 0.001 on the squares of the weights",
            f'model = kf.regularize(model, "l2-strong")\n{_COMPILE}',
            lambda model: regularize(model, "l2-strong"),
        ),
        Candidate(
            "augmentation",
            "images shifted, turned and zoomed by up to a tenth",
            f'model = kf.regularize(model, augment="digits")\n{_COMPILE}',
            lambda model: regularize(model, augment="digits"),
        ),
        Candidate(
            "smaller",
            "half as many units",
            f"{_NEW.format('kf.shrink(model, 0.5)')}\n{_COMPILE}",
            _smaller,
        ),
        Candidate(
            "wider",
            "twice as many units",
            f"{_NEW.format('kf.widen(model, 2.0)')}\n{_COMPILE}",
            _wider,
        ),
        Candidate(
            "no-regularization",
            "penalties, dropout and noise taken out",
            f'model = kf.regularize(model, "none")\n{_COMPILE}',
            lambda model: regularize(model, "none"),
        ),
        Candidate(
            "more-epochs",
            "twice as many epochs, at twice the cost",
            "model.fit(..., epochs={epochs})",
            epochs=2,
        ),
        Candidate(
            "lower-rate",
            "a third of the learning rate",
            "model.optimizer.learning_rate = {rate:.3g}",
            rate=1 / 3,
        ),
        Candidate(
            "higher-rate",
            "three times the learning rate",
            "model.optimizer.learning_rate = {rate:.3g}",
            rate=3.0,
        ),
        Candidate(
            "clipped-gradients",
            "gradients with a norm of at most 1",
            "keras.optimizers.Adam(clipnorm=1.0)  # or your optimizer",
            clipnorm=1.0,
        ),
    )
}
# In the order in which they are tried: a study that runs out of time has the first.
BY_STATE: dict[str, tuple[str, ...]] = {
    "overfitting": (EARLY, "dropout", "l2", "augmentation", "smaller", "lower-rate"),
    "healthy": ("dropout", "l2", "augmentation", "wider", "more-epochs"),
    "underfitting": (
        "wider",
        "no-regularization",
        "higher-rate",
        "more-epochs",
        "lower-rate",
    ),
    "undertrained": ("more-epochs", "higher-rate", "wider", "no-regularization"),
    "diverging": ("lower-rate", "clipped-gradients", "no-regularization"),
    "plateau": (
        "dropout",
        "l2",
        "augmentation",
        "lower-rate",
        "wider",
        "no-regularization",
    ),
    "validation_easier": ("dropout", "l2", "lower-rate", "wider", "more-epochs"),
    "unknown": (EARLY, "dropout", "l2", "wider", "lower-rate", "more-epochs"),
}
MOST = 7  # runs for each seed, in the units of the baseline's, that "auto" may take


def given(remedies: Any) -> tuple[Candidate, ...] | None:
    """The candidates that a caller named; None for "auto".

    Raises:
        TypeError, ValueError: nothing of the kind.
    """
    allowed = (
        f"'auto', a list of names ({', '.join(CATALOGUE)}), or a dict of functions"
    )
    if isinstance(remedies, str):
        if remedies == "auto":
            return None
        hint = arguments.near(remedies, ("auto", *CATALOGUE))
        if remedies in CATALOGUE:
            hint = f"Pass a list: [{remedies!r}]."
        raise ValueError(arguments.message("remedies", allowed, remedies, hint))
    if isinstance(remedies, Mapping):
        found = [_own(str(name), one) for name, one in remedies.items()]
    elif isinstance(remedies, (list, tuple)):
        found = [
            CATALOGUE[arguments.choice("remedies", name, tuple(CATALOGUE))]
            for name in remedies
        ]
    else:
        raise TypeError(arguments.message("remedies", allowed, remedies))
    names = [one.name for one in found]
    if not found or BASELINE in names or len(set(names)) < len(names):
        hint = f"Each once, and none called {BASELINE!r}."
        raise ValueError(arguments.message("remedies", allowed, remedies, hint))
    return tuple(found)


def _own(name: str, function: Any) -> Candidate:
    change = arguments.function("remedies", function, "(model) -> model", count=1)
    called = getattr(function, "__name__", "remedy")
    called = name if called == "<lambda>" else called
    return Candidate(name, "your own", f"model = {called}(model)", change)


def chosen(state: str, *, images: bool) -> tuple[Candidate, ...]:
    """What the verdict on the baseline asks to be tried."""
    names = BY_STATE[state]
    kept = [name for name in names if images or name != "augmentation"]
    return tuple(CATALOGUE[name] for name in kept)
