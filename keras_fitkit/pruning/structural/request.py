"""What a user asks of shrink."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_fitkit._core import arguments, selection
from keras_fitkit._core.selection import Choice

_TARGETS = ("sparsity", "target_macs", "target_params")


@dataclasses.dataclass(frozen=True)
class Request:
    """How much goes, and of what.

    Args:
        kind: the target that was given, or None.
        target: its value.
        each: with a dict of layers, these and the fraction that goes of each.
        layers: whose channels may go; None for all.
        exclude: whose channels stay.
        round_to: channels of a layer stay in multiples of it.
        min_keep: channels that stay in each group at least.
    """

    kind: str | None
    target: float
    each: tuple[tuple[Choice, float], ...]
    layers: Choice | None
    exclude: Choice
    round_to: int
    min_keep: int

    @property
    def is_exact(self) -> bool:
        """Whether only what is dead goes."""
        return self.kind is None and not self.each

    @classmethod
    def checked(
        cls,
        sparsity: Any,
        target_macs: Any,
        target_params: Any,
        layers: Any,
        exclude: Any,
        round_to: Any,
        min_keep: Any,
    ) -> Request:
        """Of the arguments of `kf.shrink`.

        Raises:
            TypeError, ValueError: an argument outside its range, by name; two targets.
        """
        given = dict(zip(_TARGETS, (sparsity, target_macs, target_params), strict=True))
        asked = [name for name in _TARGETS if given[name] is not None]
        if len(asked) > 1:
            allowed = f"None where `{asked[0]}` is given"
            raise ValueError(arguments.message(asked[1], allowed, given[asked[1]]))
        each: tuple[tuple[Choice, float], ...] = ()
        if isinstance(layers, Mapping):
            each, layers = _fractions(layers, asked), None
        elif layers is not None and not asked:
            hint = "Or pass a dict: layers={'dense_1': 0.5}."
            allowed = "given with `sparsity`, `target_macs` or `target_params`"
            raise ValueError(arguments.message("layers", allowed, layers, hint))
        for name in asked:
            given[name] = _target(name, given[name])
        selection.check("layers", layers)
        selection.check("exclude", exclude)
        return cls(
            asked[0] if asked else None,
            float(given[asked[0]]) if asked else 0.0,
            each,
            None if layers is None else Choice("layers", layers),
            Choice("exclude", exclude),
            arguments.integer("round_to", round_to, low=1),
            arguments.integer("min_keep", min_keep, low=1),
        )


def _target(name: str, value: Any) -> float:
    if name == "sparsity":
        hint = "For 80 % pass 0.8."
        return arguments.number(
            name, value, low=0, high=1, include_high=False, hint=hint
        )
    hint = "It is the fraction that stays."
    return arguments.number(name, value, low=0, high=1, include_low=False, hint=hint)


def _fractions(layers: Any, asked: list[str]) -> Any:
    if asked:
        hint = "The dict says how much goes of each."
        allowed = f"no dict where `{asked[0]}` is given"
        raise ValueError(arguments.message("layers", allowed, layers, hint))
    if not layers:
        raise ValueError(
            arguments.message("layers", "a dict that is not empty", layers)
        )
    found = []
    for item, fraction in layers.items():
        selection.check("layers", item)
        value = arguments.number("layers", fraction, low=0, high=1, include_high=False)
        found.append((Choice("layers", item), value))
    return tuple(found)
