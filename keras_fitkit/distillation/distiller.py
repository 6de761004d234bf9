"""Distiller: a student that learns from labels and from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import _distiller_arguments as checks
from keras_fitkit.distillation import absent_teacher, means, stored_batches, terms
from keras_fitkit.distillation._student_model import Run, StudentModel
from keras_fitkit.distillation.network import ModelOutputs


@serializable
class Distiller(StudentModel):
    """Trains a student on labels and on what a teacher says, in an ordinary `fit`.

    `loss = student_loss_weight * label loss + (1 - student_loss_weight) * sum(weight *
    distillation loss) + penalties`. The label loss is what `compile` is given, with
    sample weights, class weights, masks, loss weights and several outputs as in any
    Keras model; penalties are the student's own (`model.losses`). Sample weights count
    in every term. `evaluate`, `predict` and the validation of a fit are the student's
    alone: `val_loss` is its label loss and penalties, and the teacher is not asked.

    The teacher is never trained, changed or saved; a model that shares trained weights
    with the student is refused. In a training step each of the two runs once, whatever
    layers are tapped. `distiller.student` is a plain Keras model.

    For a subclass, public and kept: `teacher_outputs`, `compute_distillation_loss`, and
    `DistillationLoss` for losses. Under a `tf.distribute` strategy make the distiller
    in its scope, as any model.

    Args:
        teacher: a built model; a callable from inputs to outputs; a list of these, or
            of pairs (one, weight), whose probabilities are averaged; or what
            `kf.cache_teacher` gave.
        student: a built model. Its type and names stay as they are.
        distillation_losses: a loss of `keras_fitkit.distillation`, or a list of them.
            Those of `keras.distillation` are taken too, and computed as they were
            meant.
        distillation_loss_weights: a weight >= 0 for each. Defaults to None: 1.
        student_loss_weight: share of the label loss, in [0, 1]; 0 needs no labels. It
            is kept in a variable of that name. Defaults to 0.5.
        teacher_inputs: a callable that makes the teacher's inputs of the student's (a
            resize, another key of a dict). Defaults to None: the same.
        from_logits: "auto" reads from the head whether outputs are logits (it ends in
            softmax, sigmoid or neither). Where nothing shows it, say True, "softmax",
            "sigmoid", or False (softmax; for one unit sigmoid); a dict {"teacher": ...,
            "student": ...} where they differ. Defaults to "auto".
        save_teacher: whether the teacher, a Keras model or several, is saved with the
            distiller. Defaults to False: after loading, call `set_teacher`.
        name: of the model. Defaults to "distiller".

    Logs:
        `loss`; `student_loss`, the label loss with the student's penalties, as in
        validation; `distillation_loss`, the weighted sum; with several losses each
        one's own, such as `logits_distillation_loss`. All weighted by batch size.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; other class
            counts; layers that are not there; in `fit`, missing labels and a teacher
            that gives NaN.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> def net(units):
        ...     layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(3)]
        ...     return keras.Sequential([keras.Input((4,)), *layers])
        >>> distiller = kf.Distiller(
        ...     net(16), net(2), kf.distillation.LogitsDistillation(temperature=4.0)
        ... )
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> distiller.compile("adam", loss)
        >>> x, y = np.ones((8, 4)), np.zeros(8)
        >>> history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
        >>> sorted(history)
        ['distillation_loss', 'loss', 'student_loss', 'val_loss']

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv:1503.02531.
    """

    def __init__(
        self,
        teacher: Any,
        student: Any,
        distillation_losses: Any,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.5,
        *,
        teacher_inputs: Callable[..., Any] | None = None,
        from_logits: Any = "auto",
        save_teacher: bool = False,
        name: str = "distiller",
    ) -> None:
        given = checks.Checked(
            teacher,
            student,
            distillation_losses,
            distillation_loss_weights,
            student_loss_weight,
            teacher_inputs,
            from_logits,
            save_teacher,
        )
        # The student casts its inputs as it does alone: this model must not before it.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self.student = student
        self.distillation_losses = given.losses
        self._given = given
        self._run = run = Run()
        run.network = given.student_network()
        run.source, run.teacher = given.source, teacher
        self.supports_jit = given.source.supports_jit
        run.teacher_inputs = teacher_inputs
        run.inputs_lost = given.source.absent and given.source.inputs_made
        run.save_teacher = given.save_teacher
        run.student_loss_weight = given.student_loss_weight
        run.terms = terms.terms_of(given.losses, run.source, run.network)
        self.student_loss_weight = self._number(
            "student_loss_weight", given.student_loss_weight
        )
        self.distillation_loss_weights = [
            self._number(f"{term.name}_weight", weight)
            for term, weight in zip(run.terms, given.weights, strict=True)
        ]
        names = ["student_loss", "distillation_loss"]
        names += [term.name for term in run.terms] if len(run.terms) > 1 else []
        self._term_means = run.term_means = terms.TermMeans(names)
        self.built = True

    # --- The teacher

    @property
    def teacher(self) -> Any:
        """The teacher as it was given; None after loading without it."""
        run = self._run
        return None if run.source.absent else run.teacher

    def set_teacher(self, teacher: Any, teacher_inputs: Any = "same") -> None:
        """Takes another teacher with the same outputs, or the one that was not saved.

        Args:
            teacher: as in the constructor.
            teacher_inputs: as in the constructor, or "same": what it was. A file has no
                function, so after loading it must be given. A cache needs none, and
                what it was stays for the next teacher. Defaults to "same".

        Raises:
            TypeError, ValueError: as in the constructor; other outputs, or heads of
                another kind; "same" where it is not known.
        """
        run, known = self._run, teacher_inputs != "same"
        used, kept = checks.same_inputs(teacher, teacher_inputs, run)
        if self._given.save_teacher:
            checks.refuse_unsaved(teacher, used)
        source = self._given.source_of(teacher, used)
        absent_teacher.refuse_other_teacher(
            run.source, source, self._given.teacher_paths
        )
        run.terms = terms.use_teacher(run.terms, source, run.network)
        run.source, run.teacher, run.teacher_inputs = source, teacher, kept
        run.inputs_lost = run.inputs_lost and not known
        self.supports_jit = source.supports_jit
        if self.compiled and not self.supports_jit:
            self._compile_by_no_xla()
        self.train_function = None  # what was traced has the other one in it

    def teacher_outputs(self, x: Any) -> ModelOutputs:
        """What the teacher says of a batch; override it for a teacher of your own.

        Args:
            x: the inputs of the batch, as `fit` has them.

        Returns:
            `ModelOutputs`: `logits` for each output, `features` by layer. No gradient
            flows into it.

        Raises:
            ValueError: there is no teacher, or a cache without its data set.
        """
        inputs, stored = stored_batches.split(x)
        run = self._run
        asked = stored if run.source.cached else inputs
        if run.teacher_inputs is not None and not run.source.cached:
            asked = run.teacher_inputs(asked)
        found: ModelOutputs = run.source(asked)
        return found

    # --- The training step

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's outputs."""
        inputs, _ = stored_batches.split(inputs)
        run = self._run
        if not training:
            return run.network.plain(inputs)
        found = run.network(inputs, training=True)
        run.passed.outputs = found
        return found.outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of a batch: in training of all terms, else the student's own."""
        if not training:
            return self._student_loss(x, y, y_pred, sample_weight, training)
        if y_pred is None:
            y_pred = self(x, training=True)
        student = self._student_outputs(x, y_pred)
        own = means.kept_apart(sample_weight)
        label_loss = self._student_loss(x, y, y_pred, own, training)
        teacher = self.teacher_outputs(x)
        found = self.compute_distillation_loss(teacher, student, y, sample_weight)
        logs = {"student_loss": label_loss, "distillation_loss": found}
        self._track({**logs, **getattr(self._run.passed, "terms", {})}, y_pred)
        share = ops.cast(self.student_loss_weight, label_loss.dtype)
        rest = [ops.cast(found, label_loss.dtype), *self._penalties()]
        return share * label_loss + (1 - share) * terms.added(rest)

    def compute_distillation_loss(
        self,
        teacher_outputs: ModelOutputs,
        student_outputs: ModelOutputs,
        y: Any = None,
        sample_weight: Any = None,
    ) -> Any:
        """The weighted sum of the distillation losses; override it for another one.

        Args:
            teacher_outputs: of the batch.
            student_outputs: of the same forward pass that made the predictions.
            y: the labels, or None.
            sample_weight: of the batch, or None; class weights are in it.

        Returns:
            A number.
        """
        self._run.passed.terms = values = {}
        weighted = []
        for term, weight in zip(
            self._run.terms, self.distillation_loss_weights, strict=True
        ):
            value = term.value(teacher_outputs, student_outputs, y, sample_weight)
            values[term.name] = value
            weighted.append(ops.cast(weight, "float32") * value)
        return terms.added(weighted)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The metrics; without labels only those that need none."""
        found: dict[str, Any]
        if y is None:
            found = self.get_metrics_result()
        else:
            found = super().compute_metrics(x, y, y_pred, sample_weight)
        return found

    def _student_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool
    ) -> Any:
        """The label loss and the penalties; without labels or a loss, the penalties."""
        if y is None or self.loss is None:
            if training or self.loss is not None:
                checks.refuse_no_labels(self._run.student_loss_weight, y, self.loss)
            return terms.added(self._penalties() or [ops.zeros(())])
        return super().compute_loss(x, y, y_pred, sample_weight)

    def _penalties(self) -> list[Any]:
        """The student's own, of which each replica has its part, as in Keras."""
        share = means.replicas()
        found = [ops.sum(ops.cast(one, "float32")) for one in self.losses]
        return [one / share for one in found] if share > 1 else found

    def _student_outputs(self, x: Any, y_pred: Any) -> ModelOutputs:
        """What `call` has noted of the forward pass that made `y_pred`."""
        passed = self._run.passed
        found: ModelOutputs | None = getattr(passed, "outputs", None)
        passed.outputs = None
        first = keras.tree.flatten(y_pred)[0]
        if found is None or keras.tree.flatten(found.outputs)[0] is not first:
            inputs, _ = stored_batches.split(x)  # a training step of the user's own
            found = self._run.network(inputs, training=True)
        return found

    def _track(self, values: dict[str, Any], like: Any) -> None:
        self._run.passed.terms = {}
        share = means.replicas()
        if share > 1:  # a replica's loss is its part of the whole batch's
            values = {name: value * share for name, value in values.items()}
        size = ops.shape(keras.tree.flatten(like)[0])[0]
        self._term_means.update_state(values, size)

    def _number(self, name: str, value: float) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(
            name=name,
            shape=(),
            initializer=initializer,
            dtype="float32",
            trainable=False,
        )

    # --- Saving

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; the teacher only where it is to be saved."""
        return self._given.to_config(self.name, self._run)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The distiller that `get_config` described."""
        return cls(**checks.arguments_of(config))
