"""HyperparameterSchedule: a number that changes while `fit` runs."""

from __future__ import annotations

import fnmatch
import math
from typing import Any

import keras

from keras_fitkit._core import arguments, arrays
from keras_fitkit._core.callback import StepCounter

_SHAPES = ("linear", "cosine", "exponential")
# What Keras or this package must not be given, by the name of the variable.
_RANGES = {
    "student_loss_weight": (0.0, 1.0),
    "temperature": (math.ulp(0.0), math.inf),
    "learning_rate": (0.0, math.inf),
    "dropout_rate": (0.0, math.nextafter(1.0, 0.0)),
    "noise_stddev": (0.0, math.inf),
}


class HyperparameterSchedule(StepCounter):
    """Moves a variable from one value to another while the model trains.

    At step `t`, counted from 1, the variable is `start` up to `begin_step`, `end` from
    `end_step` on, and between them on a line, a half cosine (slow at both ends) or a
    geometric course. It is set every `frequency` steps and always at `end_step`; with
    `steps_per_execution` the steps of one execution have one value, `end` if `end_step`
    is among them. It works inside a compiled step, because that reads the variable; a
    plain attribute is compiled in and cannot be changed.

    On JAX a change needs the state of the model on the host: a `frequency` of 1 makes
    small steps slower there.

    Args:
        variable: the name of a variable of the model or its optimizer, such as
            "temperature", "student_loss_weight" or "learning_rate"; its path, where
            several have that name; a pattern of paths, such as "*/dropout_rate", for
            all that it matches; or the variable itself, a `keras.Variable` with one
            number.
        start: the first value.
        end: the last value.
        begin_step: last step with `start`, >= 1. Defaults to 1.
        end_step: first step with `end`, > `begin_step`. Defaults to None: the last step
            of the fit.
        shape: "linear", "cosine" or "exponential" (both values above 0). Defaults to
            "linear".
        frequency: steps from one change to the next, >= 1. Defaults to 10.

    Logs:
        The value at the end of the epoch, by the name of the variable, or by its path
        where another one has that name in the logs.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; when the fit
            begins, a variable that the model does not have, or a length that is not
            known.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> schedule = kf.HyperparameterSchedule("learning_rate", 0.1, 0.0)
        >>> data = np.zeros((8, 3)), np.zeros((8, 1))
        >>> history = model.fit(
        ...     *data, batch_size=4, epochs=5, verbose=0, callbacks=[schedule]
        ... )
        >>> round(history.history["learning_rate"][-1], 6)
        0.0
    """

    def __init__(
        self,
        variable: Any,
        start: float,
        end: float,
        *,
        begin_step: int = 1,
        end_step: int | None = None,
        shape: str = "linear",
        frequency: int = 10,
    ) -> None:
        super().__init__()
        self.variable = _checked(variable)
        low, high = _RANGES.get(self._label(), (-math.inf, math.inf))
        self.start = arguments.number("start", start, low=low, high=high)
        self.end = arguments.number("end", end, low=low, high=high)
        self.begin_step = arguments.integer("begin_step", begin_step, low=1)
        self.end_step = None
        if end_step is not None:
            self.end_step = arguments.integer(
                "end_step", end_step, low=self.begin_step + 1
            )
        self.shape = arguments.choice("shape", shape, _SHAPES)
        if shape == "exponential":
            for name, value in (("start", self.start), ("end", self.end)):
                if value <= 0:
                    allowed = "above 0 with shape='exponential'"
                    raise ValueError(arguments.message(name, allowed, value))
        self.frequency = arguments.integer("frequency", frequency, low=1)
        self._last_step = 0
        self._done_at = 0

    def value(self, step: int, last_step: int | None = None) -> float:
        """The value at a step.

        Args:
            step: counted from 1.
            last_step: of the fit, for a schedule without `end_step`.
        """
        end_step = self.end_step or last_step or self.begin_step
        if step >= end_step:
            return self.end
        share = max(0.0, (step - self.begin_step) / (end_step - self.begin_step))
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** share)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.end - self.start) * share

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the variable and sets it to `start`."""
        super().on_train_begin(logs)
        self._last_step = self._length()
        self._done_at = 0
        self._set(self.start)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the value for the step that begins, if it is one with a change."""
        super().on_train_batch_begin(batch, logs)
        step, last = self.step_ + 1, self.step_ + self._execution_size
        end_step = self.end_step or self._last_step
        # The value of a step is that of the last change, so that a resumed fit has it.
        changed_at = min(step, last - last % self.frequency)
        if last >= end_step:
            changed_at = end_step
        if changed_at > max(self.begin_step, self._done_at):
            self._done_at = changed_at
            self._set(self.value(changed_at, self._last_step))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the value into the logs."""
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            variable = self._find(self.model)[0]
            label = self._label()
            label = variable.path if label in logs else label
            logs[label] = float(arrays.to_numpy(variable))

    def _length(self) -> int:
        """Steps of the fit."""
        if self.end_step is not None:
            return self.end_step
        params = self.params or {}
        epochs, steps = params.get("epochs"), params.get("steps")
        if not epochs or not steps:
            allowed = "given where the length of an epoch is not known"
            raise ValueError(arguments.message("end_step", allowed, None))
        return max(self.begin_step + 1, int(epochs) * int(steps))

    def _set(self, value: float) -> None:
        for variable in self._find(self.model):
            variable.assign(value)

    def _find(self, model: Any) -> list[Any]:
        """The variable in a model, or those that a pattern means.

        Raises:
            ValueError: it is not there, or there are several of the name.
        """
        if not isinstance(self.variable, str):
            return [self.variable]
        known = _numbers(model)
        if any(sign in self.variable for sign in "*?["):
            matched = [
                one for one in known if fnmatch.fnmatchcase(one.path, self.variable)
            ]
            if matched:
                return matched
        for kind in ("path", "name"):
            found = [one for one in known if getattr(one, kind) == self.variable]
            if len(found) == 1:
                return found
            if found:
                paths = ", ".join(repr(one.path) for one in found)
                allowed = "a name that one variable has, a path or a pattern"
                hint = f"The paths are {paths}; for all: '*/{self.variable}'."
                text = arguments.message("variable", allowed, self.variable, hint)
                raise ValueError(text)
        names = sorted({one.name for one in known})
        allowed = f"a variable with one number; the model has {names}"
        hint = arguments.near(self.variable, names)
        raise ValueError(arguments.message("variable", allowed, self.variable, hint))

    def _label(self) -> str:
        if isinstance(self.variable, str):
            return self.variable.rpartition("/")[2]
        return str(self.variable.name)


def _numbers(model: Any) -> list[Any]:
    """The variables that a schedule may change: one number each, and not trained."""
    optimizer: Any = getattr(model, "optimizer", None)
    found = list(model.non_trainable_variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(inner, "learning_rate", None)  # a tensor where a schedule gives it
    if isinstance(rate, keras.Variable):
        found.append(rate)
    return [
        one
        for one in found
        if tuple(one.shape) == () and keras.backend.is_float_dtype(one.dtype)
    ]


def _checked(variable: Any) -> Any:
    if isinstance(variable, str) and variable:
        return variable
    if isinstance(variable, keras.Variable) and tuple(variable.shape) == ():
        return variable
    allowed = "the name of a variable, or a keras.Variable with one number"
    raise TypeError(arguments.message("variable", allowed, variable))
