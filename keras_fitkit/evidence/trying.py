"""try_remedies: which remedy helps on this data, by trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.evidence import building, inputs, running
from keras_fitkit.evidence.judging import carry_out
from keras_fitkit.evidence.remedies import given as _candidates
from keras_fitkit.evidence.remedy_report import RemedyReport
from keras_fitkit.evidence.trial import Settings, Trial
from keras_fitkit.evidence.trial_files import Store, fingerprint


def try_remedies(
    build_fn: Callable[[], Any],
    data: Any,
    *,
    minutes: float,
    remedies: Any = "auto",
    seeds: int = 3,
    validation_data: Any = None,
    validation_split: float = 0.25,
    test_data: Any = None,
    epochs: int | None = None,
    batch_size: int = 32,
    path: Any = None,
    verbose: int = 1,
) -> RemedyReport:
    """Tries remedies for a fit in short runs of the same length, and ranks them.

    The model as it is comes first; the verdict of `kf.OverfitMonitor` on it says what
    is worth trying: dropout, L2, augmentation, a smaller model, early stopping against
    overfitting; a wider model, less regularization, another learning rate, more epochs
    against underfitting. Every remedy starts from new weights with the seeds of the
    baseline, and is compared with it seed by seed. "Nothing helped" is a possible
    answer.

    The validation rows choose the winner, so its score there is too good: pass
    `test_data` for rows that choose nothing.

    Two seeds give an interval 12.7 standard errors wide on either side, three 4.3: with
    two hardly anything can be told from chance.

    Args:
        build_fn: a function without arguments that gives a new, compiled model.
        data: (x, y) as arrays, or dicts or lists of arrays.
        minutes: what all of it may take, > 0. Decides the epochs of a run, at most 100,
            by the speed of the baseline; no run is begun after it.
        remedies: "auto", a list of names (see the guide), or a dict of your own:
            functions that take a built model and return another one, compiled or not,
            by name. Defaults to "auto".
        seeds: how many, an integer >= 2. Defaults to 3.
        validation_data: (x, y) for all runs. Defaults to None: each seed holds out rows
            of its own, and the intervals allow for the overlap.
        validation_split: the fraction that each seed holds out, in (0, 1). Defaults to
            0.25.
        test_data: (x, y) that chooses nothing, to confirm the winner. Defaults to None.
        epochs: of a run, an integer >= 5, in place of those that `minutes` allows.
        batch_size: an integer >= 1. Defaults to 32.
        path: a folder for the runs, a JSON file each. A trial that was killed goes on
            from there when it is called again. Defaults to None.
        verbose: 0 silent, 1 a line for each run. Defaults to 1.

    Returns:
        A `RemedyReport`; `.code` is what to write for the winner.

    Raises:
        TypeError, ValueError: before any training, by name: an argument outside its
            range, a `build_fn` that gives the same model twice or shares layers between
            models, one that is not compiled, NaN in the data, an own remedy that fails
            or gives no model, the folder of another trial.
        ValueError: after some epochs of measuring, `minutes` too short for 5 epochs a
            run; says how many it takes.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> def build():
        ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(1e-3), "mse")
        ...     return model
        >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
        >>> report = kf.try_remedies(
        ...     build,
        ...     (x, x.sum(axis=1)),
        ...     minutes=1,
        ...     epochs=5,
        ...     seeds=2,
        ...     remedies=["higher-rate"],
        ...     verbose=0,
        ... )
        >>> report.ranked[0].change.mean < 0
        True
    """
    own = _candidates(remedies)
    settings = Settings(
        minutes=arguments.number("minutes", minutes, low=0, include_low=False),
        seeds=tuple(range(arguments.integer("seeds", seeds, low=2))),
        split=arguments.number(
            "validation_split",
            validation_split,
            low=0,
            high=1,
            include_low=False,
            include_high=False,
        ),
        epochs=None if epochs is None else arguments.integer("epochs", epochs, low=5),
        batch_size=arguments.integer("batch_size", batch_size, low=1),
        verbose=arguments.integer("verbose", verbose, low=0, high=1),
    )
    folder = None if path is None else arguments.folder("path", path)
    x, y = inputs.pair("data", data)
    fixed = _optional("validation_data", validation_data)
    test = _optional("test_data", test_data)
    with running.own_randomness():
        build = building.check(build_fn)
        row = running.part((x, y), slice(0, 1))[0]
        if own is not None:
            own = _possible(own, build, row)
        stored = _facts(settings, build, row, own, (x, y, fixed, test))
        trial = Trial(build, row, (x, y), fixed, test, settings, Store(folder, stored))
        return carry_out(trial, own)


def _optional(name: str, value: Any) -> Any:
    return None if value is None else inputs.pair(name, value)


def _possible(own: Any, build: Callable[[], Any], row: Any) -> Any:
    """The candidates that were asked for; one that cannot be had is an error now."""
    for one in own:
        try:
            one.make(build, row)
        except Exception as error:
            kind = type(error) if isinstance(error, TypeError) else ValueError
            hint = f"{one.name!r} failed on the model: {error}"
            allowed = "remedies that this model can have"
            raise kind(
                arguments.message("remedies", allowed, one.name, hint)
            ) from error
    return own


def _facts(
    settings: Settings, build: Callable[[], Any], row: Any, own: Any, data: Any
) -> dict[str, Any]:
    """What must agree for stored runs to count."""
    model = building.built(build(), row)
    return {
        "seeds": list(settings.seeds),
        "validation_split": settings.split,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "remedies": "auto" if own is None else [one.name for one in own],
        "layers": [type(layer).__name__ for _, layer in leaf_layers(model)],
        "parameters": model.count_params(),
        "backend": keras.backend.backend(),
        "data": fingerprint(*data),
    }
