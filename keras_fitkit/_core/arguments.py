"""Argument checks with one form of message.

Every public constructor checks its arguments here, before any training is lost. A
message always reads

    `name` must be <what is allowed>. Received: name=<value>. <what to do>

so that a user finds the argument, the range and the value in the first line. Checks
return the clean value (an int given for a float comes back as a float).
"""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 8


def message(name: str, allowed: str, value: object, hint: str = "") -> str:
    """The text of an argument error: name, allowed values, received value, hint."""
    text = f"`{name}` must be {allowed}. Received: {name}={_SHORT.repr(value)}."
    return f"{text} {hint}" if hint else text


def near(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name, or an empty text."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(item) for item in found)}?" if found else ""


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of `choices`, spelt exactly; a near miss is suggested."""
    if isinstance(value, str) and value in choices:
        return value
    listed = ", ".join(repr(item) for item in choices)
    hint = near(value, choices) if isinstance(value, str) else ""
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(message(name, f"one of {listed}", value, hint))


def number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    include_low: bool = True,
    include_high: bool = True,
    hint: str = "",
) -> float:
    """A finite float in the interval from `low` to `high`."""
    allowed = f"a number{_interval(low, high, include_low, include_high)}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(name, allowed, value, hint))
    clean = float(value)
    above = clean >= low if include_low else clean > low
    below = clean <= high if include_high else clean < high
    if not (math.isfinite(clean) and above and below):
        raise ValueError(message(name, allowed, value, hint))
    return clean


def integer(
    name: str,
    value: object,
    *,
    low: int | None = None,
    high: int | None = None,
    hint: str = "",
) -> int:
    """An integer (Python or NumPy) from `low` to `high`, both included."""
    span = _interval(
        -math.inf if low is None else low,
        math.inf if high is None else high,
        True,
        True,
    )
    allowed = f"an integer{span}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message(name, allowed, value, hint))
    clean = int(value)
    if (low is not None and clean < low) or (high is not None and clean > high):
        raise ValueError(message(name, allowed, value, hint))
    return clean


def flag(name: str, value: object) -> bool:
    """True or False, not something that merely behaves like it."""
    if not isinstance(value, bool):
        raise TypeError(message(name, "True or False", value))
    return value


def function(
    name: str, value: object, signature: str, *, count: int | None = None
) -> Callable[..., Any]:
    """A callable; `signature` says in words how it will be called.

    With `count` it must take so many positional arguments, where Python can tell.
    """
    if not callable(value):
        raise TypeError(message(name, f"a callable {signature}", value))
    if count is not None:
        try:
            found = inspect.signature(value)
        except (TypeError, ValueError):  # built in
            return value
        try:
            found.bind(*[None] * count)
        except TypeError:
            hint = f"It cannot be called with {count} arguments."
            text = message(name, f"a callable {signature}", value, hint)
            raise TypeError(text) from None
    return value


def path(name: str, value: object, *, suffix: str = "") -> Path:
    """A path in a folder that exists, ending in `suffix`, not itself a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(message(name, "a path (str or os.PathLike)", value))
    clean = Path(value).expanduser()
    try:
        clean.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:  # too long, or with a character of value 0
        why = getattr(error, "strerror", None) or str(error)
        allowed = "a path that can be written"
        raise ValueError(message(name, allowed, str(value), f"{why}.")) from None
    if suffix and not clean.name.endswith(suffix):
        raise ValueError(message(name, f"a path that ends in '{suffix}'", str(value)))
    if clean.is_dir():
        raise ValueError(message(name, "a file, not a folder", str(value)))
    if not clean.parent.is_dir():
        hint = f"Make the folder first: '{clean.parent}' does not exist."
        raise ValueError(
            message(name, "a path in a folder that exists", str(value), hint)
        )
    return clean


def folder(name: str, value: object) -> Path:
    """A path that is a folder, or that can become one."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(message(name, "a path (str or os.PathLike)", value))
    clean = Path(value).expanduser()
    for part in (clean, *clean.parents):
        if part.exists() and not part.is_dir():
            hint = f"'{part}' is a file."
            raise ValueError(message(name, "a folder, not a file", str(value), hint))
    return clean


def _interval(low: float, high: float, include_low: bool, include_high: bool) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" {'>=' if include_low else '>'} {low:g}"
    if math.isinf(low):
        return f" {'<=' if include_high else '<'} {high:g}"
    left, right = "[" if include_low else "(", "]" if include_high else ")"
    return f" in {left}{low:g}, {high:g}{right}"
