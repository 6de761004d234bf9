"""The groups of clustered weights inside the compiled train step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_fitkit._core import (
    _private,
    arrays,
    constraints,
    step_variables,
    targets,
)
from keras_fitkit._core.targets import Target

MOST = 2**16  # values of a kernel


class ClusterLink:
    """Gives every member of a group the mean of the group."""

    stage = constraints.Stage.CLUSTER

    def __init__(
        self, variable: Any, groups: Any, free: Any, average: Any, owner: Any
    ) -> None:
        self.variable, self.groups, self.free = variable, groups, free
        self.average, self.owner = average, owner

    def __call__(self, value: Any, /) -> Any:
        """The weight with as many values as groups, and its moving average with it."""
        if self.average is not None:
            average = ops.convert_to_tensor(self.average)
            self.average.assign(self.shared(average))
        return self.shared(value)

    def shared(self, value: Any, counted: Any = None) -> Any:
        """Every member with the mean of its group, of those that count.

        Means are taken of the distances from the largest member: of equal values the
        mean is that value, to the bit.
        """
        groups = ops.reshape(ops.convert_to_tensor(self.groups), (-1,))
        free = ops.cast(ops.convert_to_tensor(self.free), "float32")
        flat = ops.reshape(ops.cast(value, "float32"), (-1,))
        if counted is None:
            counted = self._unmasked(value)
        counted = ops.reshape(ops.cast(counted, "float32"), (-1,))
        count = self.free.shape[0]
        largest = ops.segment_max(flat, groups, num_segments=count)
        away = (flat - ops.take(largest, groups)) * counted
        sums = ops.segment_sum(away, groups, num_segments=count)
        sizes = ops.segment_sum(counted, groups, num_segments=count)
        means = ops.take(largest + sums / ops.maximum(sizes, 1.0), groups)
        means = ops.where(ops.take(free, groups) > 0, means, 0.0)
        found = ops.reshape(means, value.shape)
        return ops.cast(found, value.dtype)

    def _unmasked(self, value: Any) -> Any:
        """A weight that is pruned has no say."""
        counted = ops.ones_like(value)
        for link in constraints.links(self.variable):
            if link.stage is constraints.Stage.MASK:
                counted = link(counted)
        return counted


class Attachment:
    """The groups of one kernel while a fit runs."""

    def __init__(self, target: Target, model: Any, owner: Any, places: int) -> None:
        self.target, self.model, self.places = target, model, places
        name = target.path.replace("/", "_")

        def variable(suffix: str, shape: Any, dtype: str) -> Any:
            return step_variables.add(
                model,
                target.variable,
                f"{name}_{suffix}",
                shape=shape,
                initializer="zeros",
                dtype=dtype,
            )

        groups = variable("groups", target.shape, "int32")
        free = variable("free", (places,), "bool")
        optimizer = step_variables.base_optimizer(model.optimizer)
        average = _private.average_of(optimizer, target.variable)
        self.link = ClusterLink(target.variable, groups, free, average, owner)
        constraints.push(target.variable, self.link)

    @property
    def is_masked(self) -> bool:
        """Whether a pruning mask is on it."""
        stages = [link.stage for link in constraints.links(self.target.variable)]
        return constraints.Stage.MASK in stages

    def weight(self) -> Any:
        """The weight as an array.

        Raises:
            ValueError: NaN in it.
        """
        value = targets.to_array(self.target.variable)
        if not np.isfinite(value).all():
            raise ValueError(
                f"`{self.target.path}` must be finite to be clustered. Received: "
                f"{int((~np.isfinite(value)).sum())} of {value.size} weights are NaN or"
                " infinite. The model has diverged: lower the learning rate."
            )
        return value

    def set_groups(self, groups: Any) -> None:
        """Takes the group of each weight."""
        self.link.groups.assign(groups)

    def set_free(self, free: Any) -> None:
        """Takes which groups are trained."""
        self.link.free.assign(free)

    def apply(self) -> float:
        """Gives each weight the value of its group; how far they went, as a share."""
        variable = self.target.variable
        before = np.array(self.weight(), copy=True)
        variable.assign(self.link(ops.convert_to_tensor(variable)))
        after = arrays.to_numpy(variable).astype(before.dtype)
        length = float(np.linalg.norm(before)) or 1.0
        return float(np.linalg.norm(after - before)) / length

    def settle(self) -> None:
        """Gives each weight the value of its group, if it has another; zeros stay.

        For the end of a fit: masks may be off already, and their zeros do not count.
        """
        variable = self.target.variable
        value = ops.convert_to_tensor(variable)
        alive = ops.not_equal(value, 0)
        shared = self.link.shared(value, ops.cast(alive, "float32"))
        variable.assign(ops.where(alive, shared, value))

    def release(self) -> None:
        """Puts constraint and optimizer back as they were; can be repeated."""
        constraints.remove(self.target.variable, self.link)
        for variable in (self.link.groups, self.link.free):
            step_variables.remove(self.model, variable)


def clustered(found: Sequence[Target]) -> list[Target]:
    """The weights that have few values.

    Raises:
        ValueError: none has.
    """
    kept = []
    for target in found:
        count = np.unique(targets.to_array(target.variable)).size
        if count <= min(MOST, target.size // 2):
            kept.append(target)
    if not kept:
        raise ValueError(
            "`model` must have clustered weights for ClusterWeights.hold(). Received: "
            f"{', '.join(one.path for one in found)}, where more than half of the "
            "values differ. Cluster them first: kf.ClusterWeights(16)."
        )
    return kept


def channels_of(target: Target) -> int:
    """The output channels of a kernel."""
    return int(np.prod([target.shape[axis] for axis in target.channels]))


def rows_of(target: Target, array: Any, channels: int) -> Any:
    """(channels, weights of one), or one row of all."""
    if channels == 1:
        return array.reshape(1, -1)
    return array.transpose(_order(target)).reshape(channels, -1)


def from_rows(target: Target, rows: Any, channels: int) -> Any:
    """The inverse of `rows_of`."""
    if channels == 1:
        return rows.reshape(target.shape)
    order = _order(target)
    turned = rows.reshape([target.shape[axis] for axis in order])
    return turned.transpose(np.argsort(order))


def _order(target: Target) -> list[int]:
    """The axes, those of the channels first."""
    rest = [axis for axis in range(len(target.shape)) if axis not in target.channels]
    return [*target.channels, *rest]


def links_of(variable: Any) -> list[ClusterLink]:
    """The links on a variable, those of fits that raised included."""
    links = constraints.links(variable)
    return [link for link in links if isinstance(link, ClusterLink)]


def check_alone(found: Sequence[Target]) -> None:
    """No other callback of a running fit may cluster one of the weights.

    Raises:
        ValueError: names the weight.
    """
    for target in found:
        if links_of(target.variable):
            raise ValueError(
                "`callbacks` must hold one ClusterWeights for each weight. Received: "
                f"two for {target.path}. Give each its own `layers`."
            )


def release_stale(model: Any, alive: Sequence[Any]) -> None:
    """Takes off what fits that raised have left, on any variable of the model."""
    for variable in model.variables:
        for link in links_of(variable):
            if not any(link.owner is one for one in alive):
                constraints.remove(variable, link)
                for left in (link.groups, link.free):
                    step_variables.remove(model, left)
