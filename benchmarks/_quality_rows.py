"""The rows of prune_quality.py: which there are, which are done, what they say."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _quality_child import OURS, settings
from _scoring import wilson

DENSE, PEER = "dense", "tfmot"
NAMED = "kf global"
"""Our method of the claim, named before anything was measured."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one model is measured.

    Attributes:
        model: its name in `_models.MODELS`.
        sparsities: asked of every method.
        seeds: of the dense model, tfmot and the method of the claim.
        dense_epochs: before the pruning.
        epochs: of the pruning.
        other_seeds: of the other methods; None: `seeds`.
    """

    model: str
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    dense_epochs: int
    epochs: int
    other_seeds: tuple[int, ...] | None = None

    def has(self, method: str, seed: int) -> bool:
        """Whether a method is run with a seed."""
        claimed = method in (DENSE, NAMED, PEER) or self.other_seeds is None
        return seed in (self.seeds if claimed else self.other_seeds or ())


@dataclasses.dataclass(frozen=True)
class Paper:
    """A figure from a paper, not measured here."""

    model: str
    method: str
    sparsity: float
    error: float  # %
    dense_error: float  # % of the unpruned model there


# Guo et al., "Dynamic Network Surgery for Efficient DNNs", 2016, arXiv:1608.04493.
PAPERS = (
    Paper("LeNet-300-100", "DNS (from the paper)", 0.982, 1.99, 2.28),
    Paper("LeNet-5", "DNS (from the paper)", 0.991, 0.91, 0.91),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One training run to be made."""

    plan: Plan
    method: str
    sparsity: float
    seed: int
    train_rows: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.plan.model}/{self.method}/{self.sparsity:g}/{self.seed}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What the helper process is asked for."""
        return {
            "model": self.plan.model,
            "method": self.method,
            "sparsity": self.sparsity,
            "seed": self.seed,
            "epochs": self.plan.epochs,
        }

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        return {
            "row": self.name,
            **self.arguments,
            "dense_epochs": self.plan.dense_epochs,
            "train_rows": self.train_rows,
            **settings(),
        }


def rows_of(plans: Iterable[Plan], train_rows: int) -> Iterator[Row]:
    """All rows, seed by seed, so that what is done first can be compared."""
    for plan in plans:
        for seed in plan.seeds:
            yield Row(plan, DENSE, 0.0, seed, train_rows)
            for sparsity in plan.sparsities:
                for method in (*OURS, PEER):
                    if plan.has(method, seed):
                        yield Row(plan, method, sparsity, seed, train_rows)


class Store:
    """Finished rows, one JSON line each; a line cut short is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                self._rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue

    def find(self, row: Row) -> dict[str, Any] | None:
        """The stored row with the same key, or None."""
        wanted = row.key.items()
        for stored in reversed(self._rows):
            if all(stored.get(name) == value for name, value in wanted):
                return stored
        return None

    def add(self, row: Row, result: Mapping[str, Any]) -> None:
        """Appends a row; where it counts errors, with their share and its interval."""
        stored = {**row.key, **result}
        if "errors" in result:
            low, high = wilson(result["errors"], result["tested"])
            error = 100 * result["errors"] / result["tested"]
            stored |= {"error": error, "wilson": [100 * low, 100 * high]}
        self._rows.append(stored)
        with self.path.open("a+") as file:
            file.seek(0)
            text = file.read()
            gap = "\n" if text and not text.endswith("\n") else ""
            file.write(gap + json.dumps(stored) + "\n")


@dataclasses.dataclass(frozen=True)
class Summary:
    """A method at one sparsity over the seeds; errors in %."""

    model: str
    method: str
    sparsity: float
    zeros: float
    errors: tuple[float, ...]
    tested: int
    seconds: float

    @property
    def mean(self) -> float:
        """Mean test error."""
        return statistics.mean(self.errors)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0

    def cells(self) -> tuple[str, ...]:
        """The row of a table; the interval is for one run of the mean error."""
        wrong = round(self.mean / 100 * self.tested)
        low, high = wilson(wrong, self.tested)
        return (
            self.method,
            f"{self.sparsity:.1%}",
            f"{self.zeros:.3%}",
            f"{self.mean:.2f} %",
            f"{self.spread:.2f}" if len(self.errors) > 1 else "-",
            f"{100 * low:.2f}-{100 * high:.2f}",
            str(len(self.errors)),
            f"{self.seconds:.0f} s",
        )


def summaries(rows: Iterable[Row], store: Store) -> list[Summary]:
    """Finished rows put together over their seeds, in the order of the rows."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in rows:
        stored = store.find(row)
        if stored is not None:
            key = (row.plan.model, row.method, row.sparsity)
            groups.setdefault(key, []).append(stored)
    return [
        Summary(
            *key,
            zeros=statistics.mean(row["zeros"] for row in found),
            errors=tuple(row["error"] for row in found),
            tested=found[0]["tested"],
            seconds=statistics.mean(row["seconds"] for row in found),
        )
        for key, found in groups.items()
    ]


@dataclasses.dataclass(frozen=True)
class Claim:
    """Our named method against tfmot: by how much its mean error is lower."""

    model: str
    sparsity: float
    gain: float
    spread: float

    @property
    def met(self) -> bool:
        """Whether the gain is more than the larger spread of the two."""
        return self.gain > self.spread


def claims(found: Sequence[Summary], sparsities: Iterable[float]) -> list[Claim]:
    """One claim for each model and sparsity where both methods are measured."""
    by_key = {(one.model, one.method, one.sparsity): one for one in found}
    made: list[Claim] = []
    for model in dict.fromkeys(one.model for one in found):
        for sparsity in sparsities:
            ours = by_key.get((model, NAMED, sparsity))
            peer = by_key.get((model, PEER, sparsity))
            if ours and peer:
                spread = max(ours.spread, peer.spread)
                made.append(Claim(model, sparsity, peer.mean - ours.mean, spread))
    return made
