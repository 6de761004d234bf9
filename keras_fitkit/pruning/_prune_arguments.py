"""What `PruneSchedule` checks, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_fitkit._core import arguments, layers, targets
from keras_fitkit.pruning import (
    allocation,
    attachment,
    channel_rule,
    given_schedules,
    gradients,
    patterns,
    regrowth,
)
from keras_fitkit.pruning import scores as scores_
from keras_fitkit.pruning.mask_rule import MaskRule

COMPAT = ("tfmot",)
BY_EPOCH = (
    "PruneSchedule: Keras does not know the number of steps of this data, so the "
    "sparsity rises by epoch, with one update at the beginning of each."
)
NOTHING_TO_HOLD = (
    "PruneSchedule.hold() has found no zeros in the weights it looks at: nothing is "
    "held. To make zeros use PruneSchedule(sparsity)."
)


def rule(
    sparsity: Any,
    allocated: Any,
    scores: Any,
    pattern: Any,
    regrow: Any,
    data: Any,
    compat: Any,
) -> MaskRule:
    """The arguments that decide masks, checked one by one and with each other.

    Raises:
        ValueError, TypeError: by the argument's name.
    """
    allocated = allocation.check(allocated)
    scores_.resolve(scores)
    shape = patterns.parse(pattern)
    checked = gradients.check_data(data)
    if regrow is not None:
        arguments.choice("regrow", regrow, regrowth.NAMES)
    if compat is not None:
        arguments.choice("compat", compat, COMPAT)
        _check_compat(allocated, scores, shape, pattern, regrow)
        if isinstance(shape, patterns.KeepNOfM):
            shape = patterns.KeepNOfM(shape.keep, shape.group, pads=True)
    needs = scores in scores_.NEED_GRADIENTS if isinstance(scores, str) else False
    if checked is None and (needs or regrow):
        wanted = f"scores={scores!r}" if needs else f"regrow={regrow!r}"
        allowed = f"(x, y) for {wanted}, which needs gradients"
        raise ValueError(arguments.message("data", allowed, None))
    if isinstance(shape, patterns.Channels):
        channel_rule.check_allocation(allocated)
    if regrow and type(shape) is not patterns.Unstructured:
        allowed = "'unstructured' with `regrow`"
        raise ValueError(arguments.message("pattern", allowed, pattern))
    _check_fixed(sparsity, shape, pattern)
    if not isinstance(allocated, str) and given_schedules.named_final(sparsity) == 0.0:
        allowed = "a fraction above 0 with a dict of shares, which rise along with it"
        raise ValueError(arguments.message("sparsity", allowed, sparsity))
    if shape.sparsity is not None and allocated not in ("uniform", "global", "lamp"):
        allowed = f"'uniform' with pattern={pattern!r}, which fixes each weight's zeros"
        raise ValueError(arguments.message("allocation", allowed, allocated))
    return MaskRule(allocated, scores, shape, regrow, checked, compat == "tfmot")


def _check_compat(
    allocated: Any, scores: Any, shape: Any, pattern: Any, regrow: Any
) -> None:
    hint = "tfmot has nothing else."
    if allocated != "uniform":
        text = arguments.message(
            "allocation", "'uniform' with `compat`", allocated, hint
        )
        raise ValueError(text)
    if scores != "magnitude":
        text = arguments.message("scores", "'magnitude' with `compat`", scores, hint)
        raise ValueError(text)
    if regrow is not None:
        raise ValueError(
            arguments.message("regrow", "None with `compat`", regrow, hint)
        )
    if type(shape) not in (patterns.Unstructured, patterns.KeepNOfM):
        allowed = "'unstructured' or 'N:M' with `compat`"
        raise ValueError(arguments.message("pattern", allowed, pattern))


def _check_fixed(sparsity: Any, shape: patterns.Pattern, pattern: Any) -> None:
    final = given_schedules.named_final(sparsity)
    if shape.sparsity is None or final is None:
        return
    if abs(final - shape.sparsity) > 1e-6:
        allowed = f"{shape.sparsity:g}, which pattern={pattern!r} fixes"
        raise ValueError(arguments.message("sparsity", allowed, final))


def find(
    callback: Any, model: Any, *, holds: bool
) -> tuple[list[targets.Target], list[targets.Skipped]]:
    """The weights of a fit, after the model was checked.

    Raises:
        ValueError: not compiled, `compat` with several steps an execution, or nothing
            to prune (see `targets.find`).
    """
    layers.check_keras_model("model", model, built=True)
    if getattr(model, "optimizer", None) is None:
        hint = "Call `model.compile(optimizer, loss)`."
        raise ValueError(arguments.message("model", "a compiled model", model, hint))
    steps = getattr(model, "steps_per_execution", None) or 1
    if callback.compat is not None and steps > 1:
        allowed = "1 with compat='tfmot', which changes masks between single steps"
        raise ValueError(arguments.message("steps_per_execution", allowed, steps))
    kept = layers.kept(model)
    if holds:
        return targets.find_zeros(kept, callback.layers, callback.exclude), []
    return targets.find(kept, callback.layers, callback.exclude)


def check_alone(found: Sequence[targets.Target]) -> None:
    """No other pruning callback of a running fit may hold one of the weights.

    Raises:
        ValueError: names the weight.
    """
    for target in found:
        if attachment.links_of(target.variable):
            raise ValueError(
                "`callbacks` must hold one PruneSchedule for each weight. "
                f"Received: two for {target.path}. Give each its own `layers`."
            )


def too_late(reached: float, named: float) -> str:
    """The line at the start of a fit that is shorter than its schedule."""
    return (
        f"PruneSchedule: this fit ends before its schedule does, at sparsity "
        f"{reached:.4f} instead of {named:.4f}. Train longer, or give a smaller "
        "`end_step`; a number instead of a schedule fits itself to the fit."
    )


def below_target(reached: float, target: float) -> str:
    """The warning at the end of a fit that was too short."""
    return (
        f"PruneSchedule: the fit ended at sparsity {reached:.4f}, below its target of "
        f"{target:.4f}. Train longer, let the schedule end earlier, or look what "
        "stopped the fit."
    )


def opening(
    callback: Any, found: Sequence[targets.Target], skipped: Sequence[targets.Skipped]
) -> str:
    """What is pruned and what is not, in one line."""
    size = sum(target.size for target in found)
    names = ", ".join(target.path for target in found)
    left = "; ".join(f"{one.path} ({one.reason})" for one in skipped) or "none"
    return (
        f"PruneSchedule: prunes {len(found)} weights ({size:,} numbers): {names}. "
        f"Not pruned, of those with two or more axes: {left}."
    )
