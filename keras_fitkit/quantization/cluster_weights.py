"""ClusterWeights: many weights, few values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from keras_fitkit._core import (
    arguments,
    fits,
    layers,
    selection,
    targets,
)
from keras_fitkit._core.callback import FitCallback
from keras_fitkit._core.console import say
from keras_fitkit._core.targets import Target
from keras_fitkit.quantization import cluster_attachment as attachment
from keras_fitkit.quantization import codebooks

SEED = 0  # of the draws of "kmeans++"


class ClusterWeights(FitCallback):
    """Makes weights share a few values, and trains those values, while `fit` runs.

    When the fit begins, the weights of each kernel are grouped by k-means; each weight
    becomes the centroid of its group and stays in it. From then on the groups are
    trained: after every update, within the compiled step, the members of a group get
    the mean of what the update made of them. So a kernel has at most `num_clusters`
    values after every batch, and a file that stores an index for each weight, or is
    compressed, is small. Begin with a trained model, and a low learning rate.

    What is trained, saved and exported is the plain Keras model. It works beside
    `kf.PruneSchedule`, whose zeros count as one of the values, and on a model of
    `kf.quantize_model`: an int8 file then has at most as many codes in each channel (in
    each tensor with `per_channel=False` in its config).

    Args:
        num_clusters: values of a kernel, 2 to 65536; 16 need an index of 4 bits.
        init: where k-means begins: "kmeans++"; "linear", evenly over the range of the
            weights; "density", evenly over their distribution. Defaults to "kmeans++".
        layers: what to cluster: patterns (as in a shell) of layer or weight paths, or
            layers. None: kernels of Dense, EinsumDense, convolutions, recurrent and
            attention layers, at any depth, where they can train. Depthwise kernels and
            embeddings are clustered when they are named; biases and norms never, as in
            the paper: they are few. Defaults to None.
        exclude: what to leave out, given in the same way. Defaults to None.
        per_channel: whether each output channel has `num_clusters` values of its own.
            Defaults to False.
        preserve_zeros: whether weights that are zero stay zero. Defaults to True.
        verbose: 0 silent; 1 says what is clustered, and how far weights have moved.
            Defaults to 0.

    Raises:
        TypeError, ValueError: an argument outside its range, by name. When the fit
            begins: a model that is not built, a pattern that matches nothing, nothing
            to cluster, two ClusterWeights on one weight, NaN in a weight.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> model.compile("adam", "mse")
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> history = model.fit(
        ...     x, x @ np.ones((8, 10)), verbose=0, callbacks=[kf.ClusterWeights(4)]
        ... )
        >>> len(np.unique(model.layers[0].get_weights()[0]))
        4

    References:
        Han et al., "Deep Compression", 2016, arXiv:1510.00149, section 3. There the
        gradients of the members are added up; here their updates are averaged, so that
        a learning rate means the same for a group of any size.
    """

    _state_attributes: ClassVar[tuple[str, ...]] = ("groups_", "free_")

    def __init__(
        self,
        num_clusters: int,
        *,
        init: str = "kmeans++",
        layers: Any = None,
        exclude: Any = None,
        per_channel: bool = False,
        preserve_zeros: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.num_clusters = arguments.integer(
            "num_clusters", num_clusters, low=2, high=attachment.MOST
        )
        self.init = arguments.choice("init", init, codebooks.INITS)
        self.layers = selection.check("layers", layers)
        self.exclude = selection.check("exclude", exclude)
        self.per_channel = arguments.flag("per_channel", per_channel)
        self.preserve_zeros = arguments.flag("preserve_zeros", preserve_zeros)
        self.verbose = arguments.integer("verbose", verbose, low=0, high=1)
        self._holds = False
        self._attached: list[attachment.Attachment] = []
        self._reset()

    @classmethod
    def hold(
        cls, *, layers: Any = None, exclude: Any = None, verbose: int = 0
    ) -> ClusterWeights:
        """A callback that keeps today's groups, for training a clustered model on.

        Args:
            layers: as for `ClusterWeights`, but None means all weights of two or more
                axes that train and are no norms or biases. Those with more values than
                half their number are left alone.
            exclude: as for `ClusterWeights`.
            verbose: as for `ClusterWeights`.

        Returns:
            A `ClusterWeights` whose groups are the values that are there.
        """
        held = cls(attachment.MOST, layers=layers, exclude=exclude, verbose=verbose)
        held._holds = True
        return held

    def _reset(self) -> None:
        self._groups: dict[str, Any] = {}
        self._free: dict[str, Any] = {}

    @property
    def groups_(self) -> dict[str, Any]:
        """The group of each weight by path of the kernel; group 0 is that of zeros."""
        return self._groups

    @groups_.setter
    def groups_(self, groups: Mapping[str, Any]) -> None:
        # In the order of the model: a copy of it has other names for its layers.
        self._groups = {path: np.asarray(one, "int32") for path, one in groups.items()}
        for each, found in zip(self._attached, self._groups.values(), strict=False):
            each.set_groups(found)

    @property
    def free_(self) -> dict[str, Any]:
        """Whether each group is trained, by path: those of zeros are not."""
        return self._free

    @free_.setter
    def free_(self, free: Mapping[str, Any]) -> None:
        self._free = {path: np.asarray(one, bool) for path, one in free.items()}
        for each, found in zip(self._attached, self._free.values(), strict=False):
            each.set_free(found)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the weights and puts the groups into the train step."""
        super().on_train_begin(logs)
        model = self.model
        layers.check_keras_model("model", model, built=True)
        self._release()
        self._reset()
        # Groups that are held are those of any weight, whoever made them.
        find = targets.find_any if self._holds else _targets
        found = find(layers.kept(model), self.layers, self.exclude, done="clustered")
        if self._holds:
            if self.layers is None:
                found = [one for one in found if one.variable.trainable]
            found = attachment.clustered(found)
        alive = [one for one in fits.running_callbacks() if one is not self]
        attachment.release_stale(model, alive)
        attachment.check_alone(found)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._attached = [
            attachment.Attachment(target, model, self, self._places(target))
            for target in found
        ]
        model.make_train_function(force=True)

    def _places(self, target: Target) -> int:
        """How many groups a kernel can have, that of zeros included."""
        if self._holds:
            return min(attachment.MOST, target.size) + 1
        channels = attachment.channels_of(target) if self.per_channel else 1
        return channels * (min(self.num_clusters, target.size) + 1)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Makes the groups, before the first step."""
        super().on_epoch_begin(epoch, logs)
        if self._groups:
            return
        _ = self.model  # on JAX this brings the weights back
        rng = np.random.default_rng(SEED)
        groups, free, moved = {}, {}, []
        for each in self._attached:
            path = each.target.path
            groups[path], free[path] = self._grouped(each, rng)
        self.groups_, self.free_ = groups, free
        for each in self._attached:
            moved.append(each.apply())
        if self.verbose:
            for each, distance in zip(self._attached, moved, strict=True):
                count = len(np.unique(groups[each.target.path]))
                say(
                    f"ClusterWeights: {each.target.path}: {each.target.size:,} weights "
                    f"share {count} values, {distance:.2%} of their length away."
                )

    def _grouped(self, each: attachment.Attachment, rng: np.random.Generator) -> Any:
        """The group of each weight, and which groups are trained."""
        weight = each.weight()
        zeros = (weight == 0) & self.preserve_zeros
        masked = each.is_masked  # zeros that a mask makes are a value too
        if self._holds:
            _, groups = np.unique(weight, return_inverse=True)
            groups = groups.reshape(weight.shape) + 1
            groups[zeros] = 0
            return groups, np.arange(each.places) > 0
        channels = attachment.channels_of(each.target) if self.per_channel else 1
        width = each.places // channels
        rows = attachment.rows_of(each.target, weight, channels)
        kept = attachment.rows_of(each.target, zeros, channels)
        found = np.zeros(rows.shape, "int32")
        for channel, (row, zero) in enumerate(zip(rows, kept, strict=True)):
            found[channel] = channel * width
            rest = row[~zero]
            if rest.size:
                count = self.num_clusters - int(zero.any() or masked)
                centres = codebooks.fit(rest, max(1, count), self.init, rng)
                found[channel, ~zero] += 1 + codebooks.nearest(rest, centres)
        return (
            attachment.from_rows(each.target, found, channels),
            np.arange(each.places) % width > 0,
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the groups out of the train step; the values stay."""
        super().on_train_end(logs)
        model = self.model  # on JAX this brings the weights back
        if self._attached:
            if self._groups:
                for each in self._attached:
                    each.settle()  # averages may have been put in, or older weights
            self._release()
            model.make_train_function(force=True)

    def release(self) -> None:
        """Takes the groups off after a fit that was interrupted; the values stay.

        A fit that ends does this itself, and the next fit with a `ClusterWeights` does
        it for the one before. Call it before the model is saved or trained without.
        """
        if self._attached:
            model = self.model
            self._release()
            model.make_train_function(force=True)

    def _release(self) -> None:
        for each in self._attached:
            each.release()
        self._attached = []


def _targets(*given: Any, **named: Any) -> list[Target]:
    return targets.find(*given, **named)[0]
