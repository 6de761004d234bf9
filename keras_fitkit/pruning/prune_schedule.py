"""PruneSchedule: sparsity as an ordinary callback."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from keras_fitkit._core import arguments, fits, layers, selection
from keras_fitkit._core.callback import StepCounter
from keras_fitkit._core.console import say
from keras_fitkit._core.metric_names import SPARSITY_TOLERANCE
from keras_fitkit.pruning import (
    _prune_arguments,
    allocation,
    attachment,
    given_schedules,
    gradients,
    patterns,
    rewinding,
)
from keras_fitkit.pruning.channel_rule import ChannelRule
from keras_fitkit.pruning.mask_rule import Moment
from keras_fitkit.pruning.timeline import Timeline


class PruneSchedule(StepCounter):
    """Sets a growing part of the weights to zero while `fit` runs, and keeps it there.

    No layer is wrapped and no model is copied: what is trained, saved and exported is
    the plain Keras model. The masks are applied within the compiled train step, right
    after each update of the weights, so that pruned weights are exactly zero after
    every batch, in a checkpoint taken in mid-training too. After the fit the optimizer
    and the constraints are as they were; only the zeros stay. (While the fit runs, and
    after one that raised, the optimizer holds one variable more for each pruned weight,
    its mask; a model saved then loads, but Keras skips the optimizer's slots with a
    warning.)

    At an update before step t (steps count from 1) the lowest scores go until the
    fraction of zeros is that of the schedule. Counts are exact to within one weight;
    of equal scores those of the highest index go. Between updates nothing changes.

    `logs["sparsity"]` is below `logs["sparsity_target"]` until the last update; in
    that time `kf.EarlyStopping` counts no epoch and takes none as the best one, in
    any order of the callbacks, and `kf.OverfitMonitor` judges none. Keras's own
    `EarlyStopping` and `ModelCheckpoint(save_best_only=True)` know nothing of it: they
    may stop in the ramp, or keep dense weights as the best.

    Args:
        sparsity: fraction of zeros at the end, in [0, 1): rises from 0 along a cubic
            polynomial to the end of 75 % of this fit's steps (of its epochs, if Keras
            does not know the steps). Or a schedule: `PolynomialSparsity`,
            `ConstantSparsity`, `CosineSparsity`, `OneShotSparsity`,
            `IterativeSparsity`, one of `tfmot.sparsity.keras`, or any callable
            `(step) -> fraction`, which is asked about 100 times in the fit (where it
            falls, weights are let go again, and train on from zero).
        allocation: how the zeros are shared out. "uniform": the same fraction in every
            weight; "global": all weights compete; "lamp": they compete by their LAMP
            scores, which keep layers from dying; "erk": large weights give more; a
            dict from path patterns to final fractions, the others uniform. Defaults to
            "uniform".
        scores: "magnitude" |w|; "taylor" (w g)^2 and "snip" |w g|, with the gradient g
            on `data`; "lamp"; "random"; or a callable
            `(weight, context: ScoreContext) -> array`. Defaults to "magnitude".
        pattern: "unstructured"; "2:4", "4:8" ... (at most N nonzero in M along the
            input channels; it fixes the final sparsity); ("block", (4, 4)) of input
            and output channels; "row" (an input channel); "column" (an output
            channel); "channel" (neurons, filters and heads, in all kernels that make
            or use them: `kf.shrink(model)` takes them out afterwards and the
            predictions stay; here `sparsity` is a fraction of the channels, and
            `layers` and `exclude` mean the layers that make them). Defaults to
            "unstructured".
        layers: what to prune: patterns (as in a shell) of layer or weight paths, or
            layers. None: kernels of Dense, EinsumDense, convolutions, both of
            separable ones, both of recurrent layers, those of attention, at any depth,
            where they can train. Defaults to None.
        exclude: what to leave out, given in the same way. Defaults to None.
        data: `(x, y)` or `(x, y, sample_weight)` arrays for scores and regrowth that
            need gradients. All rows are used at each update. Defaults to None.
        regrow: None, or "rigl": at each update a fraction of the connections, falling
            from 0.3 along a cosine, is exchanged for those with the largest gradients.
            Defaults to None.
        compat: None, or "tfmot": masks as tfmot computes them, bit for bit: its
            rounding, all ties kept, one dense step before each mask. Defaults to None.
        verbose: 0 silent; 1 says at the start what is pruned and what is not, and at
            the end what was reached; 2 says each update too. Defaults to 0.

    Logs:
        `sparsity`: fraction of zeros among the pruned weights (of the channels, with
        the pattern "channel"). `sparsity_target`: what it will be at the end.

    Raises:
        ValueError, TypeError: an argument outside its range, by name. When the fit
            begins: a model that is not built, a pattern of layers that matches nothing,
            a pattern that does not divide a kernel, two PruneSchedules on one weight,
            nothing to prune, a quantized kernel, `data` without a loss, a `rewind_step`
            in the middle of an execution of several steps. At an update: NaN in a
            weight.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> model.compile("adam", "mse")
        >>> prune = kf.PruneSchedule(0.9)
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> history = model.fit(
        ...     x, x @ np.ones((8, 10)), epochs=4, verbose=0, callbacks=[prune]
        ... )
        >>> history.history["sparsity_target"][-1], kf.sparsity_of(model).sparsity
        (0.9, 0.9)

    References:
        Zhu and Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878 (the
        schedule); keras#23082, model-optimization#1119 (the wish).
    """

    _state_attributes: ClassVar[tuple[str, ...]] = (
        "masks_",
        "timeline_",
        "epochs_",
        "rewind_",
    )

    def __init__(
        self,
        sparsity: Any,
        *,
        allocation: Any = "uniform",
        scores: Any = "magnitude",
        pattern: Any = "unstructured",
        layers: Any = None,
        exclude: Any = None,
        data: Any = None,
        regrow: Any = None,
        compat: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.sparsity = given_schedules.check(sparsity)
        self.layers = selection.check("layers", layers)
        self.exclude = selection.check("exclude", exclude)
        self.verbose = arguments.integer("verbose", verbose, low=0, high=2)
        self._rule = _prune_arguments.rule(
            self.sparsity, allocation, scores, pattern, regrow, data, compat
        )
        self.allocation, self.scores, self.pattern = allocation, scores, pattern
        self.data, self.regrow, self.compat = data, regrow, compat
        self._holds = False
        self._attached: list[attachment.Attachment] = []
        self._reset()

    @classmethod
    def hold(
        cls, *, layers: Any = None, exclude: Any = None, verbose: int = 0
    ) -> PruneSchedule:
        """A callback that keeps today's zeros at zero, for training a pruned model on.

        Args:
            layers: as for `PruneSchedule`. Weights without a zero are left alone.
            exclude: as for `PruneSchedule`.
            verbose: as for `PruneSchedule`.

        Returns:
            A `PruneSchedule` that makes no new zeros.
        """
        held = cls(0.0, layers=layers, exclude=exclude, verbose=verbose)
        held._holds = True
        return held

    def _reset(self) -> None:
        self._masks: dict[str, Any] = {}
        self._timeline = Timeline(self.sparsity, self._rule)
        self._open = False
        self._channels: ChannelRule | None = None
        self.epochs_ = 0  # begun in this fit
        self.rewind_: dict[str, Any] | None = None

    @property
    def masks_(self) -> dict[str, Any]:
        """The masks by path of the weight: True where it stays."""
        if self._attached:
            return {each.target.path: each.mask for each in self._attached}
        return self._masks

    @masks_.setter
    def masks_(self, masks: Mapping[str, Any]) -> None:
        # In the order of the model: a copy of it has other names for its layers.
        self._masks = {path: np.asarray(mask, bool) for path, mask in masks.items()}
        for each, mask in zip(self._attached, self._masks.values(), strict=False):
            each.set(mask, apply=False)

    @property
    def sparsity_(self) -> float:
        """The fraction of zeros among the pruned weights (of channels gone) now."""
        masks = self.masks_.values()
        if self._channels is not None and masks:
            return self._channels.sparsity(list(masks))
        size = sum(mask.size for mask in masks)
        zeros = sum(mask.size - int(np.count_nonzero(mask)) for mask in masks)
        return zeros / size if size else 0.0

    @property
    def sparsity_target_(self) -> float:
        """The fraction there will be at the end; exactly that reached, once it is."""
        if self._holds:
            return self.sparsity_
        return self._timeline.target(self.sparsity_)

    @property
    def timeline_(self) -> dict[str, Any]:
        """How long the fit is, and the last update, as plain values."""
        return self._timeline.state

    @timeline_.setter
    def timeline_(self, state: Mapping[str, Any]) -> None:
        self._timeline.state = state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what `get_state` gave. Nothing is changed when it does not fit.

        Call it after `on_train_begin`; the weights are not part of it.

        Args:
            state: one entry for each state attribute, by its name.

        Raises:
            TypeError, ValueError: it is no state of a `PruneSchedule`, or that of a fit
                of another model or with another final sparsity.
        """
        masks = state.get("masks_") if isinstance(state, Mapping) else None
        shapes = [each.target.shape for each in self._attached]
        given = [np.shape(mask) for mask in (masks or {}).values()]
        if masks is not None and self._attached and shapes != given:
            allowed = f"the state of a fit that prunes weights of shapes {shapes}"
            raise ValueError(arguments.message("state", allowed, given))
        if isinstance(state, Mapping):
            self._timeline.check_state(state.get("timeline_"))
        super().set_state(state)

    def release(self) -> None:
        """Takes the masks off after a fit that was interrupted; the zeros stay.

        A fit that ends does this itself, and the next fit with a `PruneSchedule` does
        it for the one before. Call it before the model is saved or trained without.
        """
        if self._attached:
            model = self.model
            self._release()
            model.make_train_function(force=True)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the weights and puts the masks into the train step."""
        super().on_train_begin(logs)
        model = self.model
        self._release()
        self._reset()
        found, skipped = _prune_arguments.find(self, model, holds=self._holds)
        if isinstance(self._rule.pattern, patterns.Channels) and not self._holds:
            self._channels = ChannelRule(layers.kept(model), found)
            found = self._channels.targets
        alive = [one for one in fits.running_callbacks() if one is not self]
        attachment.release_stale(model, alive)
        _prune_arguments.check_alone(found)
        for target in found:
            self._rule.pattern.check(target)
        allocation.check_matches(self._rule.allocation, found)
        steps = (self.params or {}).get("steps")
        rewinding.check_step(self.sparsity, self._execution_size, steps)
        if self._rule.data is not None:
            gradients.try_loss(model, self._rule.data)
        if not found:
            warnings.warn(_prune_arguments.NOTHING_TO_HOLD, UserWarning, stacklevel=2)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._attached = [attachment.Attachment(each, model, self) for each in found]
        if self._holds:
            for each in self._attached:
                each.set(each.weight() != 0, apply=False)
        # A train step that was compiled before knows nothing of the constraints.
        model.make_train_function(force=True)
        if self.verbose:
            say(_prune_arguments.opening(self, found, skipped))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Lays out the schedule over the fit, once its length is known."""
        super().on_epoch_begin(epoch, logs)
        self.epochs_ += 1
        if self._holds:
            return
        timeline = self._timeline
        if self.epochs_ == 1:
            timeline.measure(self.params or {}, epoch)
            if timeline.by_epoch:
                say(_prune_arguments.BY_EPOCH)
        if timeline.plan is None:
            timeline.lay_out([each.target for each in self._attached])
            if self.epochs_ == 1 and timeline.too_late:
                say(_prune_arguments.too_late(*timeline.too_late))
        if timeline.by_epoch:
            self._update_if_due(self.epochs_)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Updates the masks where the schedule says so."""
        super().on_train_batch_begin(batch, logs)
        if self._holds:
            return
        if rewinding.due(self.sparsity, self.step_, self.rewind_):
            self.rewind_ = rewinding.snapshot(
                self.model,
                self._mask_variables(),
                optimizer=self.sparsity.rewind_optimizer,
            )
        if not self._timeline.by_epoch:
            # What is due within the execution that begins is done before it.
            self._update_if_due(self.step_ + self._execution_size)
        if self._rule.tfmot:
            self._let_move(self.step_ + 2)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the masks before weights are validated (`compat="tfmot"`)."""
        super().on_test_begin(logs)
        self._close()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes `sparsity` and `sparsity_target` into `logs`."""
        super().on_epoch_end(epoch, logs)
        self._close()
        if (
            self.epochs_ == 1
            and not self._holds
            and self._timeline.measured(self.step_)
        ):
            self._timeline.lay_out([each.target for each in self._attached])
        if logs is not None:
            logs["sparsity"] = self.sparsity_
            logs["sparsity_target"] = self.sparsity_target_

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the masks out of the train step; the zeros stay."""
        super().on_train_end(logs)
        model = self.model  # on JAX this brings the weights back
        for each in self._attached:
            each.settle()
        reached, target = self.sparsity_, self.sparsity_target_
        self._release()
        model.make_train_function(force=True)
        if reached < target - SPARSITY_TOLERANCE:
            text = _prune_arguments.below_target(reached, target)
            warnings.warn(text, UserWarning, stacklevel=2)
        elif self.verbose:
            say(f"PruneSchedule: {reached:.2%} of the pruned weights are zero.")

    def _mask_variables(self) -> list[Any]:
        return [each.link.mask for each in self._attached]

    def _update_if_due(self, step: int) -> None:
        moment = self._timeline.due(step)
        if moment is not None:
            self._update(moment)

    def _update(self, moment: Moment) -> None:
        model = self.model  # on JAX this brings the weights back
        found = self._rule.masks(model, self._attached, moment, self._channels)
        for each, mask in zip(self._attached, found, strict=True):
            each.set(mask)
        self._timeline.asked, self._open = moment.sparsity, False
        if rewinding.wanted(self.sparsity, self.rewind_):
            rewinding.rewind(model, self.rewind_, self._mask_variables())
            for each in self._attached:
                each.apply()
        if self.verbose > 1:
            unit = "epoch" if self._timeline.by_epoch else "step"
            say(f"PruneSchedule: {unit} {moment.step}: sparsity {self.sparsity_:.2%}")

    def _let_move(self, step: int) -> None:
        """Opens the masks for one step if `step`, the next, brings an update."""
        if self._timeline.brings_update(step):
            for each in self._attached:
                each.open()
            self._open = True

    def _close(self) -> None:
        if self._open:
            _ = self.model
            for each in self._attached:
                each.set(each.mask)
            self._open = False

    def _release(self) -> None:
        self._masks = dict(self.masks_)
        for each in self._attached:
            each.release()
        self._attached = []
