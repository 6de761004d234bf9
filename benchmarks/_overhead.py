"""What prune_overhead.py measures: turns of its helper processes, and ratios."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
import sys
from collections.abc import Iterable, Sequence

from _child import Child
from import_cost import median_interval

PLAIN, AGAIN = "plain", "plain again"
FREQUENCIES = {"every 100": 100, "every 10": 10}
ARMS = {
    "keras": (PLAIN, AGAIN, *FREQUENCIES),
    "tf_keras": (PLAIN, *FREQUENCIES),
}
Turns = dict[tuple[str, str], list[float]]  # CPU ms a step by (stack, arm), per round


@dataclasses.dataclass(frozen=True)
class Figure:
    """A median with its interval, and the limit it has to keep, if there is one."""

    name: str
    value: float
    low: float
    high: float
    coverage: float
    samples: int
    unit: str
    limit: float | None = None

    @classmethod
    def of(
        cls, name: str, values: Sequence[float], unit: str, limit: float | None = None
    ) -> Figure:
        """The median of `values`, its interval from the order statistics."""
        low, high, coverage = median_interval(list(values))
        median = statistics.median(values)
        return cls(name, median, low, high, coverage, len(values), unit, limit)

    @classmethod
    def highest(
        cls, name: str, values: Sequence[float], unit: str, limit: float | None = None
    ) -> Figure:
        """The largest of `values`: for memory, which has no noise to average."""
        top = max(values)
        return cls(name, top, min(values), top, 1.0, len(values), unit, limit)

    @property
    def met(self) -> bool:
        """Whether the interval's lower end is within the limit; a peak, itself."""
        value = self.value if self.coverage == 1.0 else self.low
        return self.limit is None or value <= self.limit

    def to_dict(self) -> dict[str, object]:
        """Everything, as plain values."""
        verdict = {} if self.limit is None else {"met": self.met}
        return {**dataclasses.asdict(self), **verdict}

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        verdict = "" if self.limit is None else f"<= {self.limit:g} {self.unit}"
        if self.limit is not None:
            verdict += " [green]met[/]" if self.met else " [red]NOT met[/]"
        interval = f"{_short(self.low)}-{_short(self.high)} ({self.coverage:.0%})"
        return (
            self.name,
            f"{_short(self.value)} {self.unit}",
            interval if self.coverage else "-",
            str(self.samples),
            verdict,
        )


HEADINGS = ("figure", "median", "interval", "n", "limit")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def take_turns(model: str, rounds: int, steps: dict[str, int], warm: int) -> Turns:
    """CPU milliseconds a step of every arm in each round.

    Args:
        model: its name in `_models.MODELS`.
        rounds: how often each arm has its turn.
        steps: of one turn, by arm; a multiple of the arm's update frequency.
        warm: steps before the first turn.
    """
    turns: Turns = {(stack, arm): [] for stack in ARMS for arm in ARMS[stack]}
    rng = random.Random(0)
    with contextlib.ExitStack() as open_:
        children = {
            stack: open_.enter_context(Child("_overhead_child.py", stack))
            for stack in ARMS
        }
        for stack, arm in turns:
            frequency = FREQUENCIES.get(arm)
            order = {"arm": arm, "model": model, "frequency": frequency}
            children[stack].ask("start", **order, warm=warm)
        for done in range(1, rounds + 1):
            for stack, arm in _order(rng):
                count = steps[arm]
                seconds = children[stack].ask("steps", arm=arm, count=count)
                turns[stack, arm].append(1000 * seconds / count)
            _progress(f"{model}: round {done} of {rounds}")
    print(file=sys.stderr)
    return turns


def _order(rng: random.Random) -> Iterable[tuple[str, str]]:
    """One round: arms in random order, the stacks in turns."""
    queues = [
        [(stack, arm) for arm in rng.sample(arms, len(arms))]
        for stack, arms in ARMS.items()
    ]
    while any(queues):
        for queue in queues:
            if queue:
                yield queue.pop()


def _progress(text: str) -> None:
    print(f"\r{text}", end="", file=sys.stderr, flush=True)


def ratios(turns: Turns, over: tuple[str, str], under: tuple[str, str]) -> list[float]:
    """One arm's turns over another's, round by round."""
    return [a / b for a, b in zip(turns[over], turns[under], strict=True)]


def one_off(models: Iterable[str], repeats: int) -> list[Figure]:
    """CPU seconds of whole fits of one step: what attaching and tracing cost."""
    found: list[Figure] = []
    for stack in ARMS:
        with Child("_overhead_child.py", stack) as child:
            if repeats > 1:  # not counted: TensorFlow's own start
                child.ask("once", model="MLP")
            for model in models:
                runs = [child.ask("once", model=model) for _ in range(repeats)]
                for kind in runs[0]:
                    name = f"{model}, {_TITLES[stack]}: {kind}"
                    found.append(Figure.of(name, [run[kind] for run in runs], "s"))
                _progress(f"one-off costs: {stack}, {model}          ")
    print(file=sys.stderr)
    return found


_TITLES = {"keras": "Keras 3", "tf_keras": "tf_keras + tfmot"}


def choices(rounds: int) -> list[Figure]:
    """CPU time of one choice among 10 million weights, and ratios to NumPy's."""
    found: list[Figure] = []
    with Child("_mask_child.py") as child:
        for kind, pruned in (("dense", False), ("80 % zeros", True)):
            times = child.ask("choices", rounds=rounds, pruned=pruned)
            ours = times.pop("keep_largest")
            name = f"keep_largest, |w| included, {kind}"
            found.append(Figure.of(name, ours, "ms", limit=100.0))
            for rival, theirs in times.items():
                share = [a / b for a, b in zip(ours, theirs, strict=True)]
                found.append(Figure.of(f"over {rival}, {kind}", share, "x"))
            _progress(f"mask choice: {kind}          ")
    print(file=sys.stderr)
    return found


def updates(count: int, allocations: Iterable[str]) -> list[Figure]:
    """CPU time and peak memory of whole updates by PruneSchedule, by allocation."""
    found: list[Figure] = []
    for allocation in allocations:
        limit = 2.0 if allocation == "uniform" else None
        with Child("_mask_child.py") as child:
            ask = {"allocation": allocation, "updates": count}
            rows = child.ask("update", **ask, trace=False)
            traced = child.ask("update", **ask, trace=True)
        found += _resources(f"update, {allocation}", rows, limit)
        peaks = [row["numpy"] for row in traced]
        name = f"update, {allocation}: peak of NumPy alone"
        found.append(Figure.highest(name, peaks, "kernels"))
        _progress(f"updates: {allocation}          ")
    print(file=sys.stderr)
    return found


def tfmot_updates(count: int) -> list[Figure]:
    """The same by tfmot."""
    with Child("_mask_child.py") as child:
        return _resources("update, tfmot", child.ask("tfmot_update", updates=count))


def _resources(
    name: str, rows: Sequence[dict[str, float]], limit: float | None = None
) -> list[Figure]:
    peaks = [row["resident"] for row in rows]
    return [
        Figure.of(f"{name}: CPU", [row["ms"] for row in rows], "ms"),
        Figure.highest(f"{name}: peak resident", peaks, "kernels", limit),
    ]
