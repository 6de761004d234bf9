"""shrink: a smaller model with whole channels taken out."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.count_macs import count_macs, is_countable
from keras_fitkit._core.graph import check_functional
from keras_fitkit._core.layers import check_keras_model, leaf_layers
from keras_fitkit.pruning.structural import choosing, dead, importance
from keras_fitkit.pruning.structural.channel_graph import (
    OUT,
    ChannelGraph,
    Group,
    makers_of,
)
from keras_fitkit.pruning.structural.costs import Costs
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.rebuilding import (
    Shrinking,
    keep_of,
    refuse_quantized,
)
from keras_fitkit.pruning.structural.request import Request
from keras_fitkit.pruning.structural.shrink_report import ShrinkReport, ShrunkLayer

_NEAR = 0.02  # how near a target is met where channels are many


def shrink(
    model: Any,
    sparsity: float | None = None,
    *,
    target_macs: float | None = None,
    target_params: float | None = None,
    scores: Any = "l2",
    data: Any = None,
    allocation: str = "isomorphic",
    round_to: int = 1,
    min_keep: int = 1,
    layers: Any = None,
    exclude: Any = None,
    allow_inexact: bool = False,
    return_report: bool = False,
) -> Any:
    """The same model with fewer channels: neurons, filters, heads that are really gone.

    A channel that goes is taken out of the layer that makes it, of all that work on it
    and of all that use it; channels that meet in a sum go together. The new model
    computes what the old one does with those channels masked out where they are used.
    Model inputs and outputs stay as they are. What has no rule (a custom layer, Lambda)
    keeps the channels that it touches, and the report says so.

    With no target it takes out exactly the channels that do not matter: those whose
    outgoing weights are zero, and those that are constant and whose value the next
    bias can take in. The predictions stay the same, so this is what follows
    `kf.PruneSchedule(pattern="channel")`. A residual branch that gives zeros is removed
    whole.

    Train the result for some epochs. A deep cut is best made in some steps with an
    epoch between them: no score holds far from the model that it was taken of.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed. Composite layers that offer `expand()` are expanded.
        sparsity: the fraction of the channels that goes, in [0, 1), of those that may.
            Defaults to None.
        target_macs: the multiplications of one example that stay, as a fraction of the
            model's in (0, 1]; met within 2 % where the channels are many enough.
            Defaults to None.
        target_params: the same for the parameters. Defaults to None.
        scores: "l1" or "l2" (sums of |w| or w^2 over all kernels that a channel stands
            in, Li et al. 2017); "batch_norm" (|gamma|, Liu et al. 2017; "l2" where
            there is none); "taylor" (by how much the loss of small batches changes
            without it, to first order, Molchanov et al. 2019, equation 8; the model
            must be compiled); "variance" or "apoz" (of the values where channels are
            used; share of nonzeros, Hu et al. 2016); "fpgm" (distance to the other
            filters, He et al. 2019); "random"; or a function that takes a
            `pruning.ChannelContext` and gives a number for each channel. Large ones
            stay. Defaults to "l2".
        data: for "taylor" (x, y) as arrays, for "variance" and "apoz" some rows.
            Defaults to None.
        allocation: "isomorphic": the units of groups of one shape, as in the blocks of
            a stage, compete by their score over the mean of their group, and of other
            shapes the same fraction goes (Fang et al. 2024, arXiv:2407.04616);
            "global": all compete, which is better where scores say much and far worse
            where they do not; "uniform": the same fraction of each group. Defaults to
            "isomorphic".
        round_to: channels of a layer that loses some stay in multiples of it, as far as
            there are enough; 8 is often fastest. Defaults to 1.
        min_keep: channels that stay in each group at least, an integer >= 1.
        layers: with a target, the layers whose channels may go: patterns of their
            paths, the layers, or a list; or, in place of a target, a dict of these with
            the fraction that goes of each. Defaults to all.
        exclude: patterns or layers whose channels stay. Defaults to none.
        allow_inexact: channels may go through LayerNormalization and its like, whose
            statistics change then. Defaults to False.
        return_report: also return a `ShrinkReport`. Defaults to False.

    Returns:
        A functional model, not compiled, with the names of the old one. With
        `return_report` a pair of it and the report.

    Raises:
        TypeError: no Keras 3 model, or an argument of another type.
        ValueError: a subclassed model, one that is not built or is quantized; two
            targets; a target that cannot be reached; a pattern that matches nothing;
            data missing for a score that needs it.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((28, 28, 1)),
        ...         keras.layers.Conv2D(32, 3, activation="relu", name="conv"),
        ...         keras.layers.Flatten(),
        ...         keras.layers.Dense(10, name="head"),
        ...     ]
        ... )
        >>> small = kf.shrink(model, 0.5)
        >>> small.get_layer("conv").filters
        16
    """
    check_keras_model("model", model, built=True)
    check_functional("model", model)
    refuse_quantized(model)
    request = Request.checked(
        sparsity, target_macs, target_params, layers, exclude, round_to, min_keep
    )
    scores = importance.resolve(scores, data)
    arguments.choice("allocation", allocation, choosing.ALLOCATIONS)
    arguments.flag("allow_inexact", allow_inexact)
    arguments.flag("return_report", return_report)
    exact = request.is_exact
    graph = ChannelGraph(model, allow_inexact and not exact)
    if exact:
        found = dead.find(graph)
    else:
        found = _chosen(graph, request, (scores, data, allocation), model)
    made = Shrinking(graph.walk, keep_of(graph.walk, found.roots), found).run(
        graph.model
    )
    return (made, _report(graph, found, model, made)) if return_report else made


def _chosen(
    graph: ChannelGraph, request: Request, how: tuple[Any, Any, str], model: Any
) -> dead.Dead:
    """What goes for a target, by scores, data and allocation."""
    scores, data, allocation = how
    groups = _open_groups(graph, request)
    if request.each:
        groups = _named_groups(graph, groups, request)
    found = importance.scores_of(graph, groups, scores, data, model)
    ranking = choosing.Ranking(
        groups, found, request.round_to, request.min_keep, allocation
    )
    if request.each:
        dropped = _by_layer(graph, ranking, request)
    else:
        dropped = _by_target(graph, ranking, request)
    return dead.Dead(choosing.joined(dropped), {}, {})


def _open_groups(graph: ChannelGraph, request: Request) -> list[Group]:
    """The groups that may lose units, by `layers` and `exclude`."""
    makers = makers_of(graph)
    excluded = {p for p, layer in makers.items() if request.exclude.takes(p, layer)}
    request.exclude.check_all_matched(list(makers))
    chosen = set(makers)
    if request.layers is not None:
        chosen = {p for p, layer in makers.items() if request.layers.takes(p, layer)}
        request.layers.check_all_matched(list(makers))
    return [
        group
        for group in graph.groups
        if not excluded & set(group.paths(OUT)) and chosen & set(group.paths(OUT))
    ]


def _named_groups(
    graph: ChannelGraph, groups: list[Group], request: Request
) -> list[Group]:
    """Those that a dict of layers names."""
    named = {
        path
        for path, layer in makers_of(graph).items()
        if any(choice.takes(path, layer) for choice, _ in request.each)
    }
    return [group for group in groups if named & set(group.paths(OUT))]


def _by_layer(
    graph: ChannelGraph, ranking: choosing.Ranking, request: Request
) -> list[Ids]:
    """The fraction of each layer that a dict names."""
    shares: dict[int, float] = {}
    frozen, makers = graph.frozen(), makers_of(graph)
    for choice, fraction in request.each:
        named = {p for p, layer in makers.items() if choice.takes(p, layer)}
        choice.check_all_matched(list(makers))
        places = [
            place
            for place, group in enumerate(ranking.groups)
            if named & set(group.paths(OUT))
        ]
        if not places and fraction:
            path = sorted(named)[0]
            reason = frozen.get(path, (0, "its channels are excluded"))[1]
            allowed = f"layers whose channels may go; those of {path} may not: {reason}"
            raise ValueError(arguments.message("layers", allowed, path))
        for place in places:
            shares[place] = max(fraction, shares.get(place, 0.0))
    return [
        ranking.of_group(place, round(share * ranking.groups[place].size))
        for place, share in shares.items()
    ]


def _by_target(
    graph: ChannelGraph, ranking: choosing.Ranking, request: Request
) -> list[Ids]:
    """The cut that meets a target."""
    if request.kind == "target_macs" and not is_countable(graph.model):
        hint = "Or pass `target_params` or `sparsity`."
        allowed = "None for inputs of unknown sizes and for stateful layers"
        raise ValueError(
            arguments.message("target_macs", allowed, request.target, hint)
        )
    costs = Costs(graph)
    whole = sum(group.size for group in ranking.groups)
    nothing = costs.mask([])

    def measure(cut: float) -> float:
        dropped = ranking.dropped(cut)
        if request.kind == "sparsity":
            gone = sum(len(one) for one in dropped)
            return 1 - gone / whole if whole else 1.0
        count = costs.macs if request.kind == "target_macs" else costs.params
        return count(costs.mask(dropped)) / count(nothing)

    target = 1 - request.target if request.kind == "sparsity" else request.target
    cuts = ranking.cuts()
    least = measure(cuts[-1])
    if target < least * (1 - _NEAR):
        raise _unreachable(graph, request, least, whole)
    if measure(cuts[0]) <= target:
        return ranking.dropped(cuts[0])
    return ranking.dropped(choosing.meet(cuts, measure, target))


def _unreachable(
    graph: ChannelGraph, request: Request, least: float, whole: int
) -> ValueError:
    name = str(request.kind)
    if not whole:
        hint = "`print(kf.channel_groups(model))` says why."
        reasons = [reason for _, reason in graph.frozen().values()]
        ends = [one for one in reasons if "an output of the" not in one]
        allowed = "None: no channel of these layers may go"
        allowed += f" ({ends[0]})" if ends else ""
        return ValueError(arguments.message(name, allowed, request.target, hint))
    if name == "sparsity":
        allowed = f"at most {1 - least:.4f}, which leaves the fewest channels"
    else:
        allowed = f"at least {least:.4f}, which the fewest channels leave"
    hint = "`print(kf.channel_groups(model))` says what may go."
    return ValueError(arguments.message(name, allowed, request.target, hint))


def _report(graph: ChannelGraph, found: dead.Dead, old: Any, made: Any) -> ShrinkReport:
    keep, frozen = keep_of(graph.walk, found.roots), graph.frozen()
    rows: dict[str, ShrunkLayer] = {}
    for binding in graph.walk.bindings.values():
        for axis, ids in binding.axes.items():
            if binding.roles[axis] == OUT and ids is not None:
                after = len(keep(ids))
                reason = frozen.get(binding.path, (0, ""))[1]
                row = ShrunkLayer(binding.path, len(ids), after, reason)
                rows.setdefault(binding.path, row)
    before = {path for path, _ in leaf_layers(graph.model)}
    after_ = {path for path, _ in leaf_layers(made)}
    known = is_countable(old)
    inexact = tuple(graph.walk.inexact) if len(found.roots) else ()
    return ShrinkReport(
        tuple(rows.values()),
        old.count_params(),
        made.count_params(),
        count_macs(old).total if known else None,
        count_macs(made).total if known else None,
        tuple(sorted(before - after_)),
        tuple(
            f"{binding.path}/{binding.variable.name}"
            for binding in graph.walk.bindings.values()
            if np.any(found.shifts.get(id(binding.variable), 0.0))
        ),
        inexact,
    )
