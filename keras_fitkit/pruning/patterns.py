"""The shape that zeros must have: which weights go together.

A pattern turns the scores of a weight into the scores of its units (single weights,
blocks, rows ...), of which the lowest go, and units that stay into a mask. A score of
infinity never goes.
"""

from __future__ import annotations

import dataclasses
import numbers
import re
from typing import Any, Protocol

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.targets import Target
from keras_fitkit.pruning.masks import Array, Mask, keep_largest

_SORTED = 1 << 14  # weights sorted at once

ALLOWED = (
    "'unstructured', 'channel', 'row', 'column', 'N:M' such as '2:4', or "
    "('block', (rows, columns))"
)


class Pattern(Protocol):
    """One shape of zeros."""

    @property
    def sparsity(self) -> float | None:
        """The only sparsity that the pattern can have at the end, or None."""

    def check(self, target: Target) -> None:
        """Raises ValueError if the pattern does not fit the weight."""

    def unit_size(self, target: Target) -> int:
        """How many weights go together."""

    def units(self, target: Target, scores: Array) -> Array:
        """Scores of the units, shape (units,), from those of the weights."""

    def mask(self, target: Target, kept: Mask) -> Mask:
        """The mask of the weight from the units that stay, shape (units,)."""


@dataclasses.dataclass(frozen=True)
class Unstructured:
    """Each weight by itself."""

    sparsity: None = None

    def check(self, target: Target) -> None:
        """Fits every weight."""

    def unit_size(self, target: Target) -> int:
        """One."""
        return 1

    def units(self, target: Target, scores: Array) -> Array:
        """The scores as they are."""
        return scores.reshape(-1)

    def mask(self, target: Target, kept: Mask) -> Mask:
        """The units are the weights."""
        return kept.reshape(target.shape)


@dataclasses.dataclass(frozen=True)
class KeepNOfM:
    """At most `keep` nonzero weights in each run of `group` along the input channels.

    On the way to the final sparsity only weights among the `group - keep` lowest of
    their run can go, so that the pattern comes out whole.
    """

    keep: int
    group: int
    pads: bool = False  # tfmot's: the last run may be shorter than the others

    @property
    def sparsity(self) -> float:
        """(M - N) / M."""
        return (self.group - self.keep) / self.group

    def check(self, target: Target) -> None:
        """The input channels must be a multiple of `group`."""
        inputs = int(np.prod([target.shape[axis] for axis in target.inputs]))
        if inputs % self.group and not self.pads:
            allowed = (
                f"a pattern that divides the {inputs} input channels of {target.path}"
            )
            raise ValueError(_misfit(f"{self.keep}:{self.group}", allowed))

    def unit_size(self, target: Target) -> int:
        """One: the run only says which weights may go."""
        return 1

    def units(self, target: Target, scores: Array) -> Array:
        """The scores, infinite where the weight is among the `keep` best of its run."""
        best = np.array(target.matrices(scores), order="C")
        places, inputs, outputs = best.shape
        step = max(1, _SORTED // max(1, places * inputs))
        for start in range(0, outputs, step):  # the sort takes eight bytes a weight
            part = best[:, :, start : start + step]
            rows = part.transpose(0, 2, 1).reshape(-1, inputs)
            marked = self._marked(rows).reshape(places, -1, inputs)
            part[:] = marked.transpose(0, 2, 1)
        return np.asarray(target.from_matrices(best).reshape(-1))

    def mask(self, target: Target, kept: Mask) -> Mask:
        """The units are the weights."""
        return kept.reshape(target.shape)

    def _marked(self, rows: Array) -> Array:
        """Rows of channels, infinite where the `keep` best of each run stand."""
        filled = rows.shape[1]
        if filled % self.group:
            rows = np.pad(rows, ((0, 0), (0, -filled % self.group)))
        runs = rows.reshape(len(rows), -1, self.group)
        order = np.argsort(-runs, axis=-1, kind="stable")  # of equals the first stays
        stays = np.zeros(runs.shape, dtype=bool)
        np.put_along_axis(stays, order[..., : self.keep], True, axis=-1)
        return np.where(stays, np.inf, runs).reshape(len(rows), -1)[:, :filled]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of `rows` input channels by `columns` output channels at each place."""

    rows: int
    columns: int
    sparsity: None = None

    def check(self, target: Target) -> None:
        """Both channel counts must be multiples of the block's."""
        _, inputs, outputs = target.matrices(np.empty(target.shape, bool)).shape
        for size, step, what in (
            (inputs, self.rows, "input"),
            (outputs, self.columns, "output"),
        ):
            if size % step:
                allowed = (
                    f"a block that divides the {size} {what} channels of {target.path}"
                )
                raise ValueError(_misfit(("block", (self.rows, self.columns)), allowed))

    def unit_size(self, target: Target) -> int:
        """The weights of a block."""
        return self.rows * self.columns

    def units(self, target: Target, scores: Array) -> Array:
        """The mean score of each block."""
        blocks = self._blocks(target.matrices(scores))
        return np.asarray(blocks.mean(axis=(2, 4)).reshape(-1))

    def mask(self, target: Target, kept: Mask) -> Mask:
        """Each unit covers its block."""
        places, inputs, outputs = target.matrices(np.empty(target.shape, bool)).shape
        grid = kept.reshape(places, inputs // self.rows, outputs // self.columns)
        spread = grid.repeat(self.rows, axis=1).repeat(self.columns, axis=2)
        return np.asarray(target.from_matrices(spread))

    def _blocks(self, cube: Array) -> Array:
        places, inputs, outputs = cube.shape
        down, across = inputs // self.rows, outputs // self.columns
        return cube.reshape(places, down, self.rows, across, self.columns)


@dataclasses.dataclass(frozen=True)
class Lines:
    """Whole rows (one input channel) or whole columns (one output channel)."""

    of: str  # "row" or "column"
    sparsity: None = None

    def check(self, target: Target) -> None:
        """Fits every weight."""

    def unit_size(self, target: Target) -> int:
        """The weights of one channel."""
        places, inputs, outputs = target.matrices(np.empty(target.shape, bool)).shape
        return int(places * (outputs if self.of == "row" else inputs))

    def units(self, target: Target, scores: Array) -> Array:
        """The mean score of each channel."""
        axes = (0, 2) if self.of == "row" else (0, 1)
        return np.asarray(target.matrices(scores).mean(axis=axes))

    def mask(self, target: Target, kept: Mask) -> Mask:
        """Each unit covers its channel."""
        shape = target.matrices(np.empty(target.shape, bool)).shape
        line = kept[None, :, None] if self.of == "row" else kept[None, None, :]
        return np.asarray(target.from_matrices(np.broadcast_to(line, shape)))


@dataclasses.dataclass(frozen=True)
class Channels(Unstructured):
    """Whole channels, in all weights that they stand in: see `channel_rule`."""


def parse(value: Any) -> Pattern:
    """The pattern that the argument `pattern` means.

    Raises:
        ValueError, TypeError: nothing that is allowed.
    """
    if value == "unstructured":
        return Unstructured()
    if value == "channel":
        return Channels()
    if isinstance(value, str) and value in ("row", "column"):
        return Lines(value)
    if isinstance(value, str) and re.fullmatch(r"\d+:\d+", value):
        keep, group = map(int, value.split(":"))
        if 1 <= keep < group:
            return KeepNOfM(keep, group)
        hint = "N of M weights stay, so N is at least 1 and less than M."
        raise ValueError(arguments.message("pattern", ALLOWED, value, hint))
    if isinstance(value, (tuple, list)) and len(value) == 2 and value[0] == "block":
        return Blocks(*_sides(value))
    hint = (
        arguments.near(value, ("unstructured", "channel", "row", "column"))
        if isinstance(value, str)
        else ""
    )
    kind = ValueError if isinstance(value, (str, tuple, list)) else TypeError
    raise kind(arguments.message("pattern", ALLOWED, value, hint))


def _sides(value: Any) -> tuple[int, int]:
    sides = value[1] if isinstance(value[1], (tuple, list)) else ()
    whole = [one for one in sides if isinstance(one, numbers.Integral)]
    if len(sides) != 2 or len(whole) != 2 or min(whole) < 1:
        hint = "The sides of a block are two integers >= 1."
        raise ValueError(arguments.message("pattern", ALLOWED, value, hint))
    return int(whole[0]), int(whole[1])


def _misfit(pattern: Any, allowed: str) -> str:
    hint = "Leave the layer out with `exclude`, or take another pattern."
    return arguments.message("pattern", allowed, pattern, hint)


def choose(pattern: Pattern, target: Target, scores: Array, zeros: int) -> Mask:
    """The mask with `zeros` units less, those of the lowest scores."""
    units = pattern.units(target, scores)
    del scores  # as large as the weight
    return pattern.mask(target, keep_largest(units, units.size - zeros))
