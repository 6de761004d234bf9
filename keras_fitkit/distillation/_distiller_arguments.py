"""The arguments of a distiller: checked, stored, and made again from a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, layers
from keras_fitkit._core.hyperparameter_schedule import HyperparameterSchedule
from keras_fitkit.distillation import absent_teacher, from_keras, heads, teachers
from keras_fitkit.distillation.cache import TeacherCache
from keras_fitkit.distillation.distillation_loss import DistillationLoss
from keras_fitkit.distillation.network import Network

_PROBED_ROWS = 4


class Checked:
    """The constructor's arguments, with their models looked at."""

    def __init__(
        self,
        teacher: Any,
        student: Any,
        distillation_losses: Any,
        distillation_loss_weights: Any,
        student_loss_weight: Any,
        teacher_inputs: Any,
        from_logits: Any,
        save_teacher: Any,
    ) -> None:
        self.student = layers.check_keras_model("student", student, built=True)
        self.student_loss_weight = arguments.number(
            "student_loss_weight", student_loss_weight, low=0, high=1
        )
        self.from_logits = heads.check_from_logits(from_logits)
        self.losses, self.weights = _losses(
            distillation_losses, distillation_loss_weights
        )
        self.logits = any(loss.reads == "logits" for loss in self.losses)
        self.save_teacher = arguments.flag("save_teacher", save_teacher)
        if self.save_teacher:
            refuse_unsaved(teacher, teacher_inputs)
        self.source = self.source_of(teacher, teacher_inputs)

    @property
    def teacher_paths(self) -> list[str]:
        """The teacher's layers that losses want."""
        return _paths(loss.teacher_layer_name for loss in self.losses)

    def student_network(self) -> Network:
        """The student with its taps."""
        paths = _paths(loss.student_layer_name for loss in self.losses)
        return Network("student", self.student, paths, self.from_logits, self.logits)

    def source_of(self, teacher: Any, teacher_inputs: Any) -> Any:
        """The object that is asked for the teacher's outputs.

        Raises:
            TypeError, ValueError: as the constructor of a distiller.
        """
        if teacher_inputs is not None:
            arguments.function("teacher_inputs", teacher_inputs, "(x) -> x", count=1)
        if isinstance(teacher, absent_teacher.AbsentTeacher):
            return teacher
        if isinstance(teacher, TeacherCache):
            if teacher_inputs is not None:
                allowed = "None with a cache, which has the outputs already"
                text = arguments.message("teacher_inputs", allowed, teacher_inputs)
                raise ValueError(text)
            return teacher.source(self.teacher_paths, self.student)
        members = teachers.members_of(teacher)
        for one, _ in members:
            _refuse_shared(one, self.student)
        return teachers.NetworkTeacher(
            members, self.teacher_paths, self.from_logits, self.logits
        )

    def to_config(self, name: str, run: Any) -> dict[str, Any]:
        """All of them as plain values, with the teacher that there is now."""
        save = keras.saving.serialize_keras_object
        known = absent_teacher.described(run.source, self.teacher_paths)
        known["inputs_made"] = run.teacher_inputs is not None or run.inputs_lost
        return {
            "name": name,
            "student": save(self.student),
            "distillation_losses": [save(loss) for loss in self.losses],
            "distillation_loss_weights": list(self.weights),
            "student_loss_weight": self.student_loss_weight,
            "from_logits": self.from_logits,
            "save_teacher": self.save_teacher,
            "teacher": save(run.teacher) if self.save_teacher else None,
            "teacher_is": known,
        }


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments of what `to_config` gave."""
    load = keras.saving.deserialize_keras_object
    found = dict(config)
    known = found.pop("teacher_is")
    found["student"] = load(found["student"])
    found["distillation_losses"] = [load(one) for one in found["distillation_losses"]]
    if found["teacher"] is None:
        found["teacher"] = absent_teacher.AbsentTeacher(known)
    else:
        teacher = load(found["teacher"])
        if isinstance(teacher, (list, tuple)):  # a file knows no pairs, only lists
            teacher = [tuple(one) if isinstance(one, list) else one for one in teacher]
        found["teacher"] = teacher
    return found


def same_inputs(teacher: Any, given: Any, run: Any) -> tuple[Any, Any]:
    """What makes this teacher's inputs, and that of a next one, for `set_teacher`.

    Raises:
        ValueError: what it was, where that was a function that no file holds.
    """
    if given != "same":
        return given, given
    if isinstance(teacher, TeacherCache):
        return None, run.teacher_inputs
    if run.inputs_lost:
        allowed = (
            "given: the distiller was saved with one, and no file holds a function"
        )
        hint = "None, if this teacher needs none."
        raise ValueError(arguments.message("teacher_inputs", allowed, "same", hint))
    return run.teacher_inputs, run.teacher_inputs


def highest_share(distiller: Any, callbacks: Any = None) -> float:
    """The largest `student_loss_weight` in a fit: a schedule may start at 0."""
    variable = distiller.student_loss_weight
    found = [float(arrays.to_numpy(variable))]
    for one in getattr(callbacks, "callbacks", None) or keras.tree.flatten(callbacks):
        if not isinstance(one, HyperparameterSchedule) or not distiller.compiled:
            continue
        with contextlib.suppress(ValueError):  # not there yet: the schedule will say so
            if any(moved is variable for moved in one._find(distiller)):
                found += [one.start, one.end]
    return max(found)


def before_fit(distiller: Any, x: Any, y: Any, share: float) -> None:
    """Looks at what can be looked at before the first step.

    Raises:
        ValueError: no teacher, no labels that are needed, or NaN from the teacher.
    """
    if distiller.compiled and distiller.loss is None:
        refuse_no_labels(share, y, None)
    flat = [one for one in keras.tree.flatten(x) if one is not None]
    in_memory = bool(flat) and all(
        isinstance(one, np.ndarray) or keras.ops.is_tensor(one) for one in flat
    )
    if in_memory and y is None and distiller.loss is not None:
        refuse_no_labels(share, y, distiller.loss)
    source = distiller._run.source
    if source.absent or (in_memory and source.cached):
        source(None)  # says what is missing
    if source.cached:
        distiller._run.teacher.refuse_other_rows(x)
        return
    if in_memory:
        _probe(distiller, x)
    elif isinstance(x, keras.utils.PyDataset):
        batch = x[0]
        _probe(distiller, batch[0] if isinstance(batch, tuple) else batch)
    # Looking at a batch of anything else would take it: see `after_first_step`.


def _probe(distiller: Any, x: Any) -> None:
    """Asks the teacher about some rows.

    Raises:
        ValueError: it says NaN.
    """
    try:
        found = distiller.teacher_outputs(keras.tree.map_structure(_some, x))
    except Exception:
        # It may want a batch of one size, or the loop that `fit` runs it in; if it is
        # at fault, `fit` says so. The first step is looked at as well.
        return
    for one in (*found.logits, *found.features.values()):
        if one is None:
            continue
        values = keras.ops.convert_to_numpy(keras.ops.cast(one, "float32"))
        if not np.isnan(values).any():
            continue
        if _has_nan(x):
            allowed = "inputs that are numbers, or a teacher that takes NaN"
            hint = f"See its first {_PROBED_ROWS} rows."
            raise ValueError(arguments.message("x", allowed, "NaN", hint))
        hint = f"It gives NaN for one of the first {_PROBED_ROWS} rows."
        raise ValueError(_no_number(hint))


def _some(rows: Any) -> Any:
    """A few rows, as the loop of `fit` would have them."""
    if rows is None:
        return None
    dtype = keras.backend.standardize_dtype(rows.dtype)
    wanted = keras.config.floatx() if keras.backend.is_float_dtype(dtype) else None
    return keras.ops.convert_to_tensor(rows[:_PROBED_ROWS], wanted)


def _has_nan(x: Any) -> bool:
    rows = [one[:_PROBED_ROWS] for one in keras.tree.flatten(x) if one is not None]
    values = [arrays.to_numpy(one) for one in rows]
    return any(one.dtype.kind == "f" and np.isnan(one).any() for one in values)


def after_first_step(logs: Mapping[str, Any], steps: int) -> None:
    """Looks at what the first step, or the first `steps` in one, have logged.

    Raises:
        ValueError: its distillation loss is NaN.
    """
    taught, own = (
        np.isnan(arrays.to_numpy(logs.get(name, 0.0))).any()
        for name in ("distillation_loss", "student_loss")
    )
    if taught and own and steps == 1:  # else the student may have it of the teacher
        allowed = "inputs and labels for which the student's loss is a number"
        hint = "Both losses of the first batch are NaN."
        raise ValueError(arguments.message("x", allowed, "NaN", hint))
    if taught:
        hint = "The distillation loss of the first batch is NaN."
        if own:
            hint = f"Both losses of the first {steps} batches are NaN, or their inputs."
        raise ValueError(_no_number(hint))


def _no_number(hint: str) -> str:
    return arguments.message(
        "teacher", "a model whose outputs are numbers", "NaN", hint
    )


def refuse_no_labels(share: float, y: Any, loss: Any) -> None:
    """Raises where the label loss counts and cannot be computed."""
    if share == 0:
        return
    hint = "Without labels: student_loss_weight=0."
    if loss is None:
        allowed = "a loss for the labels, while student_loss_weight > 0"
        raise ValueError(arguments.message("loss", allowed, loss, hint))
    allowed = "labels, while student_loss_weight > 0"
    raise ValueError(arguments.message("y", allowed, y, hint))


def put_back(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Gives variables the values that a fit on JAX took from them, and raised."""
    for variable, value in zip(variables, values, strict=True):
        try:
            variable.value  # noqa: B018
        except TypeError:
            with contextlib.suppress(RuntimeError):  # used up: nothing is left of it
                variable.assign(value)


def _losses(given: Any, weights: Any) -> tuple[list[DistillationLoss], list[float]]:
    several = isinstance(given, (list, tuple))
    listed = list(given) if several else [given]
    if not listed:
        allowed = "a DistillationLoss, or a list that is not empty"
        raise ValueError(arguments.message("distillation_losses", allowed, given))
    if weights is None:
        weights = [1.0] * len(listed)
    if not isinstance(weights, (list, tuple)):
        weights = [weights]
    if len(weights) != len(listed):
        allowed = f"a weight for each of the {len(listed)} losses"
        text = arguments.message("distillation_loss_weights", allowed, weights)
        raise ValueError(text)
    found: list[DistillationLoss] = []
    clean: list[float] = []
    for one, weight in zip(listed, weights, strict=True):
        checked = arguments.number("distillation_loss_weights", weight, low=0)
        made = from_keras.ours(one)
        found += made
        clean += [checked] * len(made)
    if len({id(one) for one in found}) != len(found):
        allowed = "a list without the same object twice"
        raise ValueError(arguments.message("distillation_losses", allowed, given))
    return [one.for_another() if one.in_use else one for one in found], clean


def _paths(names: Any) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))


def _refuse_shared(teacher: Any, student: Any) -> None:
    """A teacher that would be trained with the student."""
    allowed = "another model than the student, without weights that it trains"
    if teacher is student:
        raise ValueError(arguments.message("teacher", allowed, "the student itself"))
    if not isinstance(teacher, keras.Model):
        return
    trained = {id(one): one.path for one in student.trainable_variables}
    shared = [trained[id(one)] for one in teacher.variables if id(one) in trained]
    if shared:
        hint = f"Shared: {', '.join(shared[:3])}. For a copy: keras.models.clone_model."
        raise ValueError(arguments.message("teacher", allowed, teacher.name, hint))


def refuse_unsaved(teacher: Any, teacher_inputs: Callable[..., Any] | None) -> None:
    cached = isinstance(teacher, (TeacherCache, absent_teacher.AbsentTeacher))
    if cached or not all(
        isinstance(one, keras.Model) for one, _ in teachers.members_of(teacher)
    ):
        allowed = "False unless every teacher is a Keras model"
        raise ValueError(arguments.message("save_teacher", allowed, True))
    if teacher_inputs is not None:
        allowed = "False with `teacher_inputs`, a function that no file can hold"
        raise ValueError(arguments.message("save_teacher", allowed, True))
