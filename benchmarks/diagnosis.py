"""How well does keras_fitkit tell overfitting, and the other states of a training run?

    python benchmarks/diagnosis.py [--quick] [--seed S] [--only PART] [--json PATH]

Four parts: `synthetic` scores alarms on labelled curves beside rival rules, `descent`
asks the same of double descent and grokking, `real` of Keras runs on scikit-learn
data, and `states` tables every state of `diagnose`. Rules were tuned on seeds 0, 1 and
20 (after reports on 11 and 12) and on the real runs of seeds 0 to 5; the default, 13,
and the real runs of seeds 6 to 8 are for reporting. The real runs are trained once and
kept in the cache, run by run: an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _curves import (
    DESCENT,
    NEGATIVE,
    NO_ONSET,
    POSITIVE,
    Curves,
    FloatArray,
    IntArray,
    draw_curves,
)
from _real_runs import AMBIGUOUS, RealRun, load_or_train
from _recipes import CONFIGURATIONS
from _report import (
    Requirement,
    console,
    print_matrix,
    print_requirements,
    print_rows,
    print_scores,
    write_json,
)
from _rivals import RIVALS, Rival
from _scoring import NEVER, Score, first_flags, score, wilson
from _states import STATES, draw_states

from keras_fitkit.monitoring import prechelt, rules
from keras_fitkit.monitoring.diagnosis import diagnose_curves

TUNING_SEED, REPORT_SEED = 0, 13
LENGTHS = (100, 50, 20)
REAL_TOLERANCE = 5
TUNING_RUNS, REPORT_RUNS = (0, 1, 2, 3, 4, 5), (6, 7, 8)
"""Seeds of the real runs: rules were looked at on the first, not on the second."""
OUR_RULE = "keras_fitkit auto"

Flagger = Callable[[FloatArray, FloatArray], IntArray]
"""First flagged epoch of each run; losses of shape (runs, epochs)."""
Part = tuple[dict[str, object], list[Requirement]]


def flaggers(epochs: int) -> dict[str, Flagger]:
    """Every rule under test for runs of this many epochs, ours first."""
    ours: dict[str, rules.Rule] = {
        OUR_RULE: rules.OverfitTrend.for_run(epochs),
        "GL 5 (ours)": prechelt.GeneralizationLoss(5.0),
        "PQ .75 (ours)": prechelt.ProgressQuotient(0.75, strip=5),
        "UP s=4 (ours)": prechelt.SuccessiveStrips(4, strip=5),
    }
    return {name: _one_by_one(rule) for name, rule in ours.items()} | {
        name: _all_at_once(rival) for name, rival in RIVALS.items()
    }


def _one_by_one(rule: rules.Rule) -> Flagger:
    def flag(train: FloatArray, validation: FloatArray) -> IntArray:
        pairs = zip(train, validation, strict=True)
        return first_flags(np.array([rules.flags(rule, *pair) for pair in pairs]))

    return flag


def _all_at_once(rival: Rival) -> Flagger:
    return lambda train, validation: first_flags(rival(train, validation))


def tolerance(epochs: int) -> int:
    """3 % of the run: how early a flag may come; at least one epoch."""
    return max(1, round(0.03 * epochs))


def synthetic(arguments: argparse.Namespace) -> Part:
    """Alarms on labelled synthetic curves of three lengths."""
    count = 25 if arguments.quick else 400
    results: dict[str, object] = {}
    required: list[Requirement] = []
    for epochs in LENGTHS:
        drawn = [
            draw_curves(kind, count, epochs, arguments.seed)
            for kind in POSITIVE + NEGATIVE
        ]
        flagged = {
            name: [flag(curves.train, curves.validation) for curves in drawn]
            for name, flag in flaggers(epochs).items()
        }
        onset = np.concatenate([curves.onset for curves in drawn])
        scores = {
            name: score(np.concatenate(flags), onset, tolerance(epochs))
            for name, flags in flagged.items()
        }
        title = (
            f"Synthetic, {epochs} epochs, {count} runs of each of {len(drawn)} kinds"
        )
        print_scores(title, _ours_first(scores), ours=1)
        shares = _shares(drawn, flagged[OUR_RULE])
        console.print(
            "flagged by kind: " + ", ".join(f"{k} {v:.2f}" for k, v in shares.items())
        )
        results[f"{epochs} epochs"] = {
            "rules": {name: each.to_dict() for name, each in scores.items()},
            "flagged_by_kind": shares,
        }
        required += _required(f"synthetic, {epochs} epochs", scores[OUR_RULE], f1=0.97)
    return results, required


def descent(arguments: argparse.Namespace) -> Part:
    """Second descents: what is flagged on the way, what is said at the end."""
    count, epochs = 25 if arguments.quick else 100, 100
    results: dict[str, object] = {}
    rows = []
    for kind in DESCENT:
        curves = draw_curves(kind, count, epochs, arguments.seed)
        for name in (
            OUR_RULE,
            "Keras patience 20",
            "Theil-Sen val up, train down, w=20",
        ):
            flagged = flaggers(epochs)[name](curves.train, curves.validation) != NEVER
            results[f"{kind}, {name}"] = float(flagged.mean())
            rows.append((kind, name, f"{flagged.mean():.2f}", ""))
        verdicts = Counter(
            _verdict(*run)
            for run in zip(curves.train, curves.validation, curves.scale, strict=True)
        )
        results[f"{kind}, verdicts"] = dict(verdicts)
        words = ", ".join(
            f"{state} {number}" for state, number in verdicts.most_common()
        )
        rows.append(
            (
                kind,
                "diagnose at the end",
                f"{verdicts['overfitting'] / count:.2f}",
                words,
            )
        )
    headings = (
        "kind",
        "rule",
        "overfitting",
        "verdicts once validation has descended again",
    )
    print_rows(f"Second descents, {count} runs each (no limit)", headings, rows)
    return results, []


def real(arguments: argparse.Namespace) -> Part:
    """Alarms on Keras runs, with the clean training loss and with Keras's own."""
    chosen = CONFIGURATIONS[::6] if arguments.quick else CONFIGURATIONS
    seeds = TUNING_RUNS if arguments.seed == TUNING_SEED else REPORT_RUNS
    seeds = seeds[:1] if arguments.quick else seeds
    runs = load_or_train(chosen, seeds, arguments.cache, console.print)
    labelled = [run for run in runs if run.onset != AMBIGUOUS]
    positive = sum(run.onset != NO_ONSET for run in labelled)
    console.print(
        f"{len(runs)} runs of {len(chosen)} configurations: {positive} overfit, "
        f"{len(labelled) - positive} do not, {len(runs) - len(labelled)} are ambiguous "
        "and left out"
    )
    results: dict[str, object] = {
        "labels": {f"{run.name}/{run.seed}": run.onset for run in runs},
    }
    required: list[Requirement] = []
    for source in ("clean", "keras"):
        flagged = {
            name: _flag_runs(flag, labelled, source)
            for name, flag in _real_flaggers(labelled)
        }
        onset = np.array([run.onset for run in labelled])
        scores = {
            name: score(flags, onset, REAL_TOLERANCE) for name, flags in flagged.items()
        }
        print_scores(f"Real runs, {source} training loss", _ours_first(scores), ours=1)
        results[source] = {name: each.to_dict() for name, each in scores.items()}
        wrong = _wrong(labelled, flagged[OUR_RULE])
        console.print("wrong: " + (", ".join(wrong) or "none"))
        if source == "clean":
            required = _required("real runs", scores[OUR_RULE], f1=0.93)[:1]
    return results, required


def states(arguments: argparse.Namespace) -> Part:
    """The verdict of `diagnose` against the true state."""
    count = 20 if arguments.quick else 100
    total: dict[str, Counter[str]] = {state: Counter() for state in STATES}
    results: dict[str, object] = {}
    for epochs in LENGTHS:
        runs, drawn, between = draw_states(count, epochs, arguments.seed)
        matrix: dict[str, Counter[str]] = {state: Counter() for state in STATES}
        for run in runs:
            matrix[run.state][_verdict(run.train, run.validation, run.constant)] += 1
        title = (
            f"States, {epochs} epochs: {_accuracy(matrix):.3f} right; {between} of "
            f"{drawn} runs drawn lay between two states and were left out"
        )
        print_matrix(title, STATES, matrix)
        results[f"{epochs} epochs"] = {"accuracy": _accuracy(matrix), "matrix": matrix}
        for state in STATES:
            total[state] += matrix[state]
    right = sum(total[state][state] for state in STATES)
    low, high = wilson(right, sum(sum(row.values()) for row in total.values()))
    console.print(
        f"all lengths: {_accuracy(total):.3f} right (95 %: {low:.3f}-{high:.3f})"
    )
    results["all"] = {
        "accuracy": _accuracy(total),
        "interval": (low, high),
        "matrix": total,
    }
    return results, [Requirement("states: accuracy", _accuracy(total), 0.9)]


def _required(name: str, result: Score, *, f1: float) -> list[Requirement]:
    return [
        Requirement(f"{name}: F1", result.f1, f1),
        Requirement(
            f"{name}: false alarms", result.false_alarm_rate, 0.03, at_most=True
        ),
    ]


def _ours_first(scores: dict[str, Score]) -> list[tuple[str, Score]]:
    rivals = [(name, each) for name, each in scores.items() if name != OUR_RULE]
    rivals.sort(key=lambda row: -row[1].f1)
    return [(OUR_RULE, scores[OUR_RULE]), *rivals]


def _shares(drawn: list[Curves], flags: list[IntArray]) -> dict[str, float]:
    pairs = zip(drawn, flags, strict=True)
    return {curves.kind: float((each != NEVER).mean()) for curves, each in pairs}


def _verdict(train: FloatArray, validation: FloatArray, constant: float) -> str:
    return diagnose_curves(train, validation, constant=constant, honest=True).state


def _accuracy(matrix: dict[str, Counter[str]]) -> float:
    right = sum(row[state] for state, row in matrix.items())
    return right / max(1, sum(sum(row.values()) for row in matrix.values()))


def _real_flaggers(runs: list[RealRun]) -> list[tuple[str, Flagger]]:
    return list(flaggers(len(runs[0].series["clean_train"])).items())


def _flag_runs(flag: Flagger, runs: list[RealRun], source: str) -> IntArray:
    train, validation = (
        np.array([run.series[f"{source}_{side}"] for run in runs])
        for side in ("train", "validation")
    )
    return flag(train, validation)


def _wrong(runs: list[RealRun], flags: IntArray) -> list[str]:
    words = []
    for run, flag in zip(runs, flags, strict=True):
        name = f"{run.name}/{run.seed}"
        if run.onset == NO_ONSET and flag != NEVER:
            words.append(f"{name} flagged at {flag}")
        elif run.onset != NO_ONSET and flag == NEVER:
            words.append(f"{name} missed (onset {run.onset})")
        elif run.onset != NO_ONSET and flag < run.onset - REAL_TOLERANCE:
            words.append(f"{name} early ({flag}, onset {run.onset})")
    return words


PARTS: dict[str, Callable[[argparse.Namespace], Part]] = {
    "synthetic": synthetic,
    "descent": descent,
    "real": real,
    "states": states,
}


def main() -> None:
    """Runs the parts and prints their tables, then what is required."""
    arguments = _parse()
    use = "tuning: do not report it" if arguments.seed == TUNING_SEED else "reporting"
    console.print(f"seed {arguments.seed} ({use})")
    results: dict[str, object] = {"seed": arguments.seed, "quick": arguments.quick}
    required: list[Requirement] = []
    for name in [arguments.only] if arguments.only else list(PARTS):
        started = time.perf_counter()
        results[name], more = PARTS[name](arguments)
        required += more
        console.print(f"{name}: {time.perf_counter() - started:.0f} s\n", style="dim")
    print_requirements(required)
    if arguments.quick:
        console.print("--quick draws too few runs to judge the limits by")
    results["required"] = [requirement.to_dict() for requirement in required]
    if arguments.json:
        write_json(arguments.json, results)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer runs, under two minutes"
    )
    parser.add_argument(
        "--seed", type=int, default=REPORT_SEED, help="of the synthetic curves"
    )
    parser.add_argument("--only", choices=tuple(PARTS), help="this part alone")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(__file__).parents[1] / "out" / "diagnosis_runs.npz",
        help="trained real runs, kept (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
