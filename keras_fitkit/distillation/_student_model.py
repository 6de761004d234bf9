"""The side of a distiller that Keras sees: it runs as its student.

Which variables and metrics there are depends on what runs: a fit has the terms of the
distillation and, on JAX, the teacher's variables; everything else is the student alone.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_fitkit.distillation import _distiller_arguments as checks


class Run:
    """What a distiller remembers of the call in progress; nothing of it is saved."""

    def __init__(self) -> None:
        self.source: Any = None  # the teacher, in an object that Keras does not track
        self.teacher: Any = None
        self.teacher_inputs: Callable[..., Any] | None = None
        self.inputs_lost = False  # there were `teacher_inputs`, and a file without them
        self.terms: list[Any] = []
        self.network: Any = None
        self.term_means: Any = None  # a metric, in training only
        self.save_teacher = False
        self.student_loss_weight = 0.0  # as it was given, or the most of a schedule
        self.traced_share: float | None = None  # what that was in the train function
        self.evaluates = False
        self.carried: list[Any] = []  # the teacher's variables, in a fit on JAX
        self.passed = threading.local()  # from `call` to `compute_loss` in one step


class StudentModel(keras.Model):
    """A model that evaluates, predicts and is saved as its student."""

    student: Any
    train_function: Any
    _run: Run

    @property
    def kept_model(self) -> Any:
        """The student: projectors leave with the distiller, so nothing prunes them."""
        return self.student

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of the metrics that have seen something."""
        found: dict[str, Any] = {}
        for metric in self.metrics:
            if getattr(metric, "built", True):
                result = metric.result()
                own = isinstance(result, dict)
                found.update(result if own else {metric.name: result})
        return found

    @property
    def metrics(self) -> list[Any]:
        """Those of any model, and in training those of the terms."""
        found: list[Any] = super().metrics
        if not self._run.evaluates:
            return found
        return [one for one in found if one is not self._run.term_means]

    @property
    def output_names(self) -> Any:
        """The student's, for losses and metrics by name."""
        return getattr(self.student, "output_names", None)

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The student's, and in a fit on JAX the teacher's.

        There the step must be given what it reads: everything else is compiled into it
        as a constant, a second copy that a teacher's new weights would not reach.
        """
        found: list[Any] = super().non_trainable_variables
        return [*found, *self._run.carried] if self._run.carried else found

    def __dir__(self) -> list[str]:
        # Keras saves what it finds among these names.
        hidden = {"teacher", "kept_model"}
        if not self._run.save_teacher:
            hidden.add("saved_teachers")
        return [name for name in super().__dir__() if name not in hidden]

    @property
    def saved_teachers(self) -> list[Any]:
        """The models that are in the file with `save_teacher=True`; else none."""
        run = self._run
        return [one.model for one in run.source.networks] if run.save_teacher else []

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "teacher":  # Keras would track it before the property is asked
            raise AttributeError("Call `distiller.set_teacher(teacher)`.")
        super().__setattr__(name, value)

    def make_train_function(self, force: bool = False) -> Any:
        """As in Keras; the first call of what it makes is looked at.

        A data set gives each batch away once, so the teacher cannot be tried before.
        """
        if force or self.train_function is None:
            self._run.traced_share = self._run.student_loss_weight
        super().make_train_function(force)
        step: Any = self.train_function
        if step is None or hasattr(step, "looks_for_nan"):
            return step

        def first(*args: Any) -> Any:
            found = step(*args)
            self.train_function = step
            logs = found[0] if isinstance(found, tuple) else found
            checks.after_first_step(logs, self.steps_per_execution or 1)
            return found

        first.looks_for_nan = True  # type: ignore[attr-defined]
        self.train_function = first
        return first

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As in Keras. Checks the teacher first, on some rows.

        Where these cannot be had (a data set that is no `PyDataset`) the first step is
        looked at.

        Raises:
            ValueError: no teacher, no labels that are needed, or NaN from the teacher.
        """
        given = inspect.signature(super().fit).bind_partial(x, y, *args, **kwargs)
        share = checks.highest_share(self, given.arguments.get("callbacks"))
        checks.before_fit(self, x, y, share)
        with self._carrying(), self._labels_count(share):
            return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As in Keras."""
        with self._carrying(), self._labels_count(checks.highest_share(self)):
            return super().train_on_batch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The student's own loss and metrics; the teacher is not asked."""
        with self._alone(evaluates=True):
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """The student's own loss and metrics; the teacher is not asked."""
        with self._alone(evaluates=True):
            return super().test_on_batch(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """The student's predictions."""
        with self._alone(evaluates=False):
            return super().predict(*args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """The student's predictions."""
        with self._alone(evaluates=False):
            return super().predict_on_batch(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """The student's, as a distiller runs as its student."""
        return self.student.export(*args, **kwargs)

    def _compile_by_no_xla(self) -> None:
        """For a teacher that cannot be compiled by it, in the place of one that can."""
        model: Any = self
        if model.jit_compile:
            model.jit_compile = False
            warnings.warn(
                "XLA cannot compile this teacher: proceeding with jit_compile=False.",
                UserWarning,
                stacklevel=3,
            )

    @contextlib.contextmanager
    def _labels_count(self, share: float) -> Iterator[None]:
        run, before = self._run, self._run.student_loss_weight
        run.student_loss_weight = share
        if share > 0 and run.traced_share == 0:
            self.train_function = None  # it was traced for batches without labels
        try:
            yield
        finally:
            run.student_loss_weight = before

    @contextlib.contextmanager
    def _alone(self, evaluates: bool) -> Iterator[None]:
        run = self._run
        before = run.evaluates, run.carried
        run.evaluates, run.carried = evaluates, []
        try:
            yield
        finally:
            run.evaluates, run.carried = before

    @contextlib.contextmanager
    def _carrying(self) -> Iterator[None]:
        if keras.backend.backend() != "jax":
            yield
            return
        own = {id(one) for one in self.variables}
        carried = [one for one in self._run.source.variables if id(one) not in own]
        values = [one.value for one in carried]
        self._run.carried = carried
        try:
            yield
        finally:
            self._run.carried = []
            checks.put_back(carried, values)
