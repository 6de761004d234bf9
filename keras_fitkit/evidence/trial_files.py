"""The runs of a trial, one JSON file each, so that a trial that was killed goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, files

PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class TrialRun:
    """One run of a trial, as it is stored.

    Attributes:
        arm: "baseline", or the remedy.
        seed: of split, weights and order.
        train, validation: the losses, one an epoch, without the penalty.
        state, summary: of the monitor's diagnosis.
        seconds: of the fit.
        test: losses of the test data: after the last epoch, and for the baseline after
            each; empty where there is none.
    """

    arm: str
    seed: int
    train: tuple[float, ...]
    validation: tuple[float, ...]
    state: str
    summary: str
    seconds: float
    test: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        """The lowest validation loss of the run; NaN where there is none."""
        finite = [value for value in self.validation if math.isfinite(value)]
        return min(finite) if finite else math.nan


class Store:
    """Keeps runs, in a folder or, without one, in memory.

    Args:
        folder: where, or None.
        settings: what must agree for stored runs to count, as plain values.

    Raises:
        ValueError: the folder holds another trial, or a damaged file.
    """

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._runs: dict[tuple[str, int], TrialRun] = {}
        self.epochs: int | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._read_plan(folder / PLAN)
        for path in sorted(folder.glob("run-*.json")):
            values = _read(path)
            try:
                run = TrialRun(**{name: _back(one) for name, one in values.items()})
            except TypeError:
                raise ValueError(_damaged(path)) from None
            self._runs[run.arm, run.seed] = run

    @property
    def seconds(self) -> float:
        """What all runs took."""
        return sum(run.seconds for run in self._runs.values())

    def plan(self, epochs: int) -> None:
        """Keeps the number of epochs that was decided on."""
        self.epochs = epochs
        if self._folder is not None:
            values = {"settings": self._settings, "epochs": epochs}
            _write(self._folder / PLAN, values)

    def get(self, arm: str, seed: int) -> TrialRun | None:
        """A run that is done, or None."""
        return self._runs.get((arm, seed))

    def add(self, run: TrialRun) -> None:
        """Keeps a run; its file is whole or not there."""
        self._runs[run.arm, run.seed] = run
        if self._folder is not None:
            name = re.sub(r"[^\w-]", "_", run.arm)
            values = dataclasses.asdict(run)
            _write(self._folder / f"run-{name}-{run.seed}.json", values)

    def _read_plan(self, path: Path) -> None:
        if not path.exists():
            return
        found = _read(path)
        if not isinstance(found.get("settings"), dict) or "epochs" not in found:
            raise ValueError(_damaged(path))
        wanted = json.loads(json.dumps(self._settings))
        known = found["settings"]
        other = [name for name in wanted if known.get(name) != wanted[name]]
        if other:
            hint = f"There: {', '.join(f'{n}={known.get(n)!r}' for n in other)}."
            allowed = f"a folder of the same trial; it differs in {', '.join(other)}"
            received = str(path.parent)
            raise ValueError(arguments.message("path", allowed, received, hint))
        self.epochs = int(found["epochs"])


def _write(path: Path, values: dict[str, Any]) -> None:
    with files.atomic_path(path) as temporary:
        text = json.dumps({name: _plain(one) for name, one in values.items()}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """NaN and infinities as text: they are not JSON."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _back(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(float(one) for one in value)
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(_damaged(path)) from error
    if not isinstance(found, dict):
        raise ValueError(_damaged(path))
    return found


def _damaged(path: Path) -> str:
    hint = "Delete that file: its run is made again."
    allowed = "a folder of whole files"
    return arguments.message("path", allowed, str(path), f"It cannot be read. {hint}")


def fingerprint(*data: Any) -> str:
    """A short text that is another one for other data."""
    digest = hashlib.sha256()
    for leaf in keras.tree.flatten(data):
        if leaf is None:
            digest.update(b"none")
            continue
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape}{array.dtype}".encode())
        plain = array.astype(str) if array.dtype.kind == "O" else array
        digest.update(plain.tobytes())
    return digest.hexdigest()[:16]
