"""What the callbacks of this package share: a state to save, and a step count.

A callback is told batches and epochs; what it has learnt from them is lost with the
process, because Keras saves no callback state (keras#9462, #14862, tf-keras#430).
`FitCallback` names that state, gives it out as plain values and takes it back.
`StepCounter` counts the steps of a fit. Writing the state to a file is not here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, layers


class FitCallback(keras.callbacks.Callback):
    """A callback whose run state can be taken out and put back.

    A class lists the attributes that hold its run state in `_state_attributes`; those
    of its base classes are added to them. Constructor arguments are no state: they
    never change. Values may be None, bool, int, float, str, arrays, tensors and
    variables, and lists and dicts (with str keys) of these; tuples come back as lists.

    It also refuses the models and fits that no callback of this package can serve. A
    subclass that overrides a hook used here calls `super()` first.

    No batch hook is overridden here: Keras runs the batch hooks of a fit in a thread as
    long as no callback overrides them.

    Example:
        >>> from typing import ClassVar
        >>> class Patience(FitCallback):
        ...     _state_attributes: ClassVar[tuple[str, ...]] = ("wait_",)
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.wait_ = 0
        >>> callback = Patience()
        >>> callback.set_state({"wait_": 3})
        >>> callback.get_state()
        {'wait_': 3}
    """

    _state_attributes: ClassVar[tuple[str, ...]] = ()

    def set_model(self, model: Any) -> None:
        """Takes the model; one of tf_keras (Keras 2) is an error.

        The `fit` of tf_keras calls this before anything that Keras 3 callbacks lack.
        """
        layers.refuse_legacy_keras("model", model)
        super().set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuses a fit that Keras cannot run.

        Here and not in `set_model`: `evaluate` and `predict` run that way.

        Raises:
            ValueError: for `steps_per_execution` > 1 with several replicas.
        """
        _check_replicas(self.model)
        super().on_train_begin(logs)

    def get_state(self) -> dict[str, Any]:
        """The run state as plain values and arrays: a copy, safe to keep.

        Returns:
            One entry for each state attribute, by its name.

        Raises:
            TypeError: if an attribute holds something that is neither.
        """
        return {
            name: _plain(getattr(self, name), f"{type(self).__name__}.{name}")
            for name in self._state_names()
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what `get_state` gave. Nothing is changed when it does not fit.

        Call it after `on_train_begin`, which resets the run state.

        Args:
            state: one entry for each state attribute, by its name.

        Raises:
            TypeError: if `state` is not a dict or holds values of another kind.
            ValueError: if an entry is missing or unknown: the state of another class,
                or of another version of this one.
        """
        owner = type(self).__name__
        names = self._state_names()
        if not isinstance(state, Mapping):
            allowed = f"a dict from `{owner}.get_state`"
            raise TypeError(arguments.message("state", allowed, state))
        missing = [name for name in names if name not in state]
        unknown = [str(name) for name in state if name not in names]
        if missing or unknown:
            allowed = f"the state of a {owner}, with the entries {list(names)}"
            hint = f"Missing: {missing}. Unknown: {unknown}."
            raise ValueError(arguments.message("state", allowed, list(state), hint))
        clean = {name: _plain(state[name], f"{owner}.{name}") for name in names}
        for name, value in clean.items():
            setattr(self, name, value)

    @classmethod
    def _state_names(cls) -> tuple[str, ...]:
        named = [
            name
            for parent in reversed(cls.__mro__)
            for name in vars(parent).get("_state_attributes", ())
        ]
        return tuple(dict.fromkeys(named))


def _check_replicas(model: Any) -> None:
    """Several steps an execution on the replicas of a MirroredStrategy: an error.

    Keras (3.15.1) fails there within its loop, with an InvalidArgumentError about a
    placeholder. Other strategies are not judged.
    """
    if not isinstance(model, keras.Model):
        return
    strategy: Any = getattr(model, "distribute_strategy", None)  # TensorFlow only
    steps = getattr(model, "steps_per_execution", None) or 1
    kinds = {kind.__name__ for kind in type(strategy).__mro__}
    if steps == 1 or "MirroredStrategy" not in kinds:
        return
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        allowed = f"1 for `fit` with MirroredStrategy ({replicas} replicas)"
        hint = "Keras cannot run several steps at once there. Compile the model anew."
        raise ValueError(arguments.message("steps_per_execution", allowed, steps, hint))


def _plain(value: Any, where: str) -> Any:
    """A copy of `value` made of plain values and arrays; `where` names it in errors."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            allowed = "a dict with str keys to be stored as state"
            raise TypeError(arguments.message(where, allowed, value))
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value):
        array = arrays.copied(value)  # a copy, never a view
        if array.dtype != object:
            return array
    allowed = "made of plain values and arrays to be stored as state"
    raise TypeError(arguments.message(where, allowed, value))


# Guards `step_` against batch hooks in two threads. One for all counters and not one
# each, so that callbacks stay copyable; it is held for one comparison.
_STEP_LOCK = threading.Lock()


class StepCounter(FitCallback):
    """A callback that counts the training steps of a fit.

    `step_` is the number of steps finished in this fit: 0 at `on_train_begin`; in
    `on_train_batch_begin` the step about to run is `step_ + 1`, so steps count from 1
    as in tfmot; in `on_train_batch_end` the step just run is counted. A subclass that
    overrides a hook used here calls `super()` first.

    With `steps_per_execution=n` the hooks see every n-th step, and a subclass can act
    on these alone. `initial_epoch` does not count: a resumed fit gets its count from
    `set_state`. A batch that the loss scaling of mixed precision skips, or one that
    only accumulates gradients, is a step.

    Exact at every epoch end on TensorFlow, JAX and torch, also where the last execution
    of an epoch is a partial one, with two limits for `steps_per_execution > 1` when the
    number of batches is unknown or `steps_per_epoch` is no multiple of it: with loss
    scaling or gradient accumulation, up to `n - 1` steps too many are counted in an
    epoch of unknown length, and `steps_per_epoch` is believed although Keras runs whole
    executions (8 steps for `steps_per_epoch=6` and n = 4). Within an epoch the count is
    right up to its last execution.

    Where the data runs out, Keras announces one more step than it runs. The subclass
    then sees `on_train_batch_begin` for the same step again in the next epoch.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> counter = StepCounter()
        >>> history = model.fit(
        ...     np.zeros((10, 3)),
        ...     np.zeros((10, 1)),
        ...     batch_size=4,
        ...     epochs=2,
        ...     verbose=0,
        ...     callbacks=[counter],
        ... )
        >>> counter.step_  # 2 epochs of 3 batches
        6
    """

    _state_attributes: ClassVar[tuple[str, ...]] = ("step_",)

    # Keras runs the end hooks of a batch in a thread (JAX, torch) while every callback
    # that overrides one says it can bear that; one that cannot makes every step wait
    # for its loss. Counting can bear it: an end hook that comes late or out of order
    # changes nothing, because the count only rises and begin hooks are never threaded.
    # A subclass that does more in `on_train_batch_end` must set this to False.
    async_safe = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_ = 0
        self._reset_steps()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the count at 0."""
        super().on_train_begin(logs)
        self.step_ = 0
        self._reset_steps()
        # Between epochs `self.model` is free; in a batch it would sync on JAX.
        self._execution_size = getattr(self.model, "steps_per_execution", None) or 1

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the step the epoch starts from."""
        super().on_epoch_begin(epoch, logs)
        self._epoch_start = self.step_
        self._last_end = -1
        self._iterations = self._read_iterations()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps before `batch` as finished."""
        super().on_train_batch_begin(batch, logs)
        self._finish(batch)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps up to `batch` as finished."""
        super().on_train_batch_end(batch, logs)
        with _STEP_LOCK:
            self._last_end = max(self._last_end, batch)
        self._finish(batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Corrects the count by the steps that the last execution really ran."""
        self.step_ = self._epoch_start + self._epoch_steps()
        super().on_epoch_end(epoch, logs)

    def _reset_steps(self) -> None:
        self._epoch_start = 0  # `step_` when the epoch began
        self._last_end = -1  # the last step of the epoch that Keras called finished
        self._execution_size = 1
        self._iterations = None

    def _finish(self, steps: int) -> None:
        """At least `steps` steps of this epoch are finished."""
        with _STEP_LOCK:
            self.step_ = max(self.step_, self._epoch_start + self._within_epoch(steps))

    def _within_epoch(self, steps: int) -> int:
        """`steps`, but not past the end of the epoch where Keras knows that."""
        known = (self.params or {}).get("steps")
        return steps if known is None else min(steps, known)

    def _epoch_steps(self) -> int:
        """The steps of the epoch that ends."""
        most = self._last_end + 1
        if self._execution_size == 1 or most == 0:
            return self._within_epoch(most)
        before, after = self._iterations, self._read_iterations()
        if before is not None and after is not None:
            # The optimizer counts one too many for data of unknown length with one
            # step an execution, where the hooks are exact. Here it is exact (measured).
            ran = after - before
            if most - self._execution_size < ran <= most:
                return ran
        return self._within_epoch(most)

    def _read_iterations(self) -> int | None:
        """The optimizer's step count, or None where it skips steps."""
        if self._execution_size == 1:
            return None
        optimizer: Any = getattr(self.model, "optimizer", None)
        if optimizer is None or isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        ):
            return None
        if getattr(optimizer, "gradient_accumulation_steps", None):
            return None
        return int(keras.ops.convert_to_numpy(optimizer.iterations))
