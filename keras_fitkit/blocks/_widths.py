"""Numbers of channels, as the papers round them."""

from __future__ import annotations


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `value`, never less than 90 % of it.

    Example:
        >>> make_divisible(37), make_divisible(11), make_divisible(3)
        (40, 16, 8)
    """
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * value else nearest + divisor


def fraction_of(channels: int, ratio: float) -> int:
    """A fraction of the channels, cut to an integer, at least one."""
    return max(1, int(channels * ratio))
