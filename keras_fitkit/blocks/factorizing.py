"""factorize: kernels of trained layers as products of thin ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_fitkit._core import arguments, rows, selection
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit._core.selection import Choice, Selection
from keras_fitkit.blocks import _factor_schemes as forms
from keras_fitkit.blocks import _folding, _macs
from keras_fitkit.blocks._moments import Moments, feed
from keras_fitkit.blocks._svd import Decomposition
from keras_fitkit.blocks.expanding import check_model
from keras_fitkit.blocks.factorization_report import (
    FactorizationReport,
    FactorizedLayer,
)

ASKED = ("rank", "explained_variance", "target_macs")


def factorize(
    model: Any,
    *,
    rank: int | None = None,
    explained_variance: float | None = None,
    target_macs: float | None = None,
    data: Any = None,
    layers: Selection = None,
    exclude: Selection = None,
    return_report: bool = False,
) -> Any:
    """The same model with low-rank kernels, by the SVD of the trained ones.

    A `Dense` or `EinsumDense` layer of m inputs and n units becomes two of rank r,
    which saves below the rank m n / (m + n). A `Conv2D` becomes a convolution to r
    channels and a 1x1 one ("channel"), or k x 1 and 1 x k ("spatial"); whichever is
    cheaper at the variance that is asked for, or keeps more at the rank. A layer for
    which neither saves MACs stays. Fine-tune the result for some epochs.

    "Spatial" kernels: Jaderberg et al., "Speeding up Convolutional Neural Networks with
    Low Rank Expansions", 2014, arXiv:1405.3866.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed. Inside composite layers nothing is factorized: use
            `kf.expand` before.
        rank: the rank of every layer, an integer >= 1. A layer in which no scheme saves
            MACs at this rank stays; one that keeps more in a scheme that stops saving
            before takes that one, at the last rank at which it saves.
        explained_variance: the fraction of the squared singular values that each layer
            keeps at least, in (0, 1]. The smallest such rank is taken.
        target_macs: the MACs of the result as a fraction of the model's, in (0, 1). The
            variance that each layer keeps is the largest that reaches it.
        data: some inputs of the model (arrays with rows; a hundred are often enough).
            What is kept is then measured in the layers' outputs on them, by the second
            moments of their inputs, and not in the kernels: exactly for dense layers
            and "channel", and for "spatial" as the sum over the columns of the kernel,
            without what neighbouring columns have in common. Defaults to None.
        layers: which layers: patterns or layers, as for `PruneSchedule`. Defaults to
            all.
        exclude: which layers not. Defaults to none.
        return_report: also return a `FactorizationReport`. Defaults to False.

    Returns:
        A functional model of plain Keras layers, "<name>_down" and "<name>_up", not
        compiled; regularizers of factorized kernels are left out. With `return_report`
        a pair of it and the report.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; not exactly one
            of `rank`, `explained_variance` and `target_macs`; a target that no rank
            reaches, or a model whose MACs are not known; a pattern that matches
            nothing.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> rng = np.random.default_rng(0)
        >>> thin = rng.normal(size=(32, 2)) @ rng.normal(size=(2, 32))
        >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(32)])
        >>> model.layers[0].set_weights([thin, np.zeros(32)])
        >>> small = kf.factorize(model, explained_variance=0.999)
        >>> small.count_params() == 2 * (32 + 32) + 32
        True
    """
    check_model(model)
    given = {
        "rank": rank,
        "explained_variance": explained_variance,
        "target_macs": target_macs,
    }
    _check_asked(given)
    for name, value in (("layers", layers), ("exclude", exclude)):
        selection.check(name, value)
    arguments.flag("return_report", return_report)
    if data is not None:
        rows.length("data", data, "arrays with rows, the inputs of the model")
    candidates = _candidates(
        model, Choice("layers", layers), Choice("exclude", exclude)
    )
    _check_rank(given["rank"], candidates)
    _decompose(model, candidates, data)
    decide = _decision(model, candidates, given)
    rewriting = _Factorizing({id(one.layer): (one, decide(one)) for one in candidates})
    made = rewriting.run(model)
    if not return_report:
        return made
    found = tuple(_row(one, decide(one)) for one in candidates)
    counts = (model.count_params(), made.count_params())
    return made, FactorizationReport(
        found, *counts, _macs.of_model(model), _macs.of_model(made)
    )


def _check_asked(given: dict[str, Any]) -> None:
    asked = [name for name, value in given.items() if value is not None]
    if len(asked) != 1:
        listed = ", ".join(f"{name}={given[name]!r}" for name in ASKED)
        allowed = "given, or `explained_variance` or `target_macs`: one of the three"
        text = f"`rank` must be {allowed}. Received: {listed}."
        raise ValueError(text)
    if given["rank"] is not None:
        arguments.integer("rank", given["rank"], low=1)
    if given["explained_variance"] is not None:
        value = given["explained_variance"]
        arguments.number("explained_variance", value, low=0, high=1, include_low=False)
    if given["target_macs"] is not None:
        arguments.number(
            "target_macs",
            given["target_macs"],
            low=0,
            high=1,
            include_low=False,
            include_high=False,
            hint="It is a fraction of the MACs of the model.",
        )


@dataclasses.dataclass
class _Candidate:
    """A layer that is asked about, and how it can be factorized."""

    path: str
    layer: Any
    nodes: list[Any]
    reason: str
    schemes: list[forms.Scheme]
    parts: list[Decomposition]

    @property
    def cost(self) -> int:
        return forms.cost(self.layer, self.nodes)


@dataclasses.dataclass(frozen=True)
class _Decided:
    """A scheme of a candidate and the rank; `reason` where it stays."""

    place: int
    rank: int
    reason: str = ""


Decision = Callable[[_Candidate], _Decided]


def _candidates(model: Any, chosen: Choice, excluded: Choice) -> list[_Candidate]:
    found: list[_Candidate] = []
    paths: list[str] = []
    for places in _folding.calls(model).values():
        path, layer = places[0].path, places[0].node.operation
        if not forms.is_kind(layer):
            continue
        paths.append(path)
        takes = chosen.takes(path, layer) if chosen.items else True
        if excluded.takes(path, layer) or not takes:
            continue
        nodes = [place.node for place in places]
        reason = forms.obstacle(layer)
        schemes = [] if reason else forms.schemes(layer, nodes)
        found.append(_Candidate(path, layer, nodes, reason, schemes, []))
    for choice in (chosen, excluded):
        choice.check_all_matched(paths)
    if not found:
        if paths:
            allowed = f"a choice that leaves some of {', '.join(paths)}"
            raise ValueError(arguments.message("exclude", allowed, excluded.items))
        allowed = "a model with a Dense, EinsumDense or Conv2D layer"
        hint = "Composite layers are opened by `kf.expand(model)`."
        raise ValueError(arguments.message("model", allowed, model.name, hint))
    return found


def _check_rank(rank: Any, candidates: list[_Candidate]) -> None:
    """Some layer must have so many."""
    most = max((s.full for one in candidates for s in one.schemes), default=None)
    if rank is not None and most is not None and rank > most:
        allowed = f"at most {most}, the largest full rank there is"
        raise ValueError(arguments.message("rank", allowed, rank))


def _decompose(model: Any, candidates: list[_Candidate], data: Any) -> None:
    for one in candidates:
        if not all(np.isfinite(scheme.matrix).all() for scheme in one.schemes):
            allowed = "a model with finite weights"
            received = f"NaN or infinity in '{one.path}'"
            raise ValueError(arguments.message("model", allowed, received))
    moments = Moments()
    if data is not None:
        by_id = {id(one.layer): one for one in candidates if one.schemes}

        def take(key: int, array: Any) -> None:
            if not np.isfinite(array).all():
                allowed = f"inputs for which what '{by_id[key].path}' takes is finite"
                raise ValueError(arguments.message("data", allowed, "NaN or infinity"))
            for scheme in by_id[key].schemes:
                moments.add((key, scheme.name), scheme.rows(array))

        feed(model, data, set(by_id), take)
    for one in candidates:
        one.parts = [
            forms.decompose(scheme, moments.of((id(one.layer), scheme.name)))
            for scheme in one.schemes
        ]


def _decision(
    model: Any, candidates: list[_Candidate], given: dict[str, Any]
) -> Decision:
    if given["rank"] is not None:
        return lambda one: _at_rank(one, int(given["rank"]))
    if given["explained_variance"] is not None:
        return lambda one: _at_variance(one, float(given["explained_variance"]))
    variance = _variance_for(model, candidates, float(given["target_macs"]))
    return lambda one: _at_variance(one, variance)


def _at_rank(one: _Candidate, rank: int) -> _Decided:
    """The scheme that keeps most of those that save."""
    if one.reason:
        return _Decided(0, 0, one.reason)
    ranks = [scheme.largest(rank, one.cost) for scheme in one.schemes]
    if rank not in ranks:
        return _Decided(0, 0, f"rank {rank} does not save MACs")
    # A scheme may keep more at the last rank at which it saves than another at `rank`:
    # without it more ranks could mean more error.
    kept = [part.variance(own) for part, own in zip(one.parts, ranks, strict=True)]
    place = kept.index(max(kept))
    return _Decided(place, ranks[place])


def _at_variance(one: _Candidate, variance: float) -> _Decided:
    """The scheme that costs least, if it saves."""
    if one.reason:
        return _Decided(0, 0, one.reason)
    ranks = [part.rank_for(variance) for part in one.parts]
    costs = [scheme.cost(rank) for scheme, rank in zip(one.schemes, ranks, strict=True)]
    place = costs.index(min(costs))
    if costs[place] >= one.cost:
        text = f"needs rank {ranks[place]} for {variance:.2%}, which saves no MACs"
        return _Decided(place, 0, text)
    return _Decided(place, ranks[place])


def _variance_for(model: Any, candidates: list[_Candidate], target: float) -> float:
    """The largest variance, the same for all, at which the model costs so little."""
    whole = _macs.of_model(model)
    if whole is None:
        raise ValueError(
            "`target_macs` must be None for a model whose MACs are not known. "
            f"Received: target_macs={target}. Give its inputs a full shape, or use "
            "`explained_variance`."
        )

    def macs(variance: float) -> int:
        found = whole
        for one in candidates:
            decided = _at_variance(one, variance)
            if not decided.reason:
                found -= one.cost - one.schemes[decided.place].cost(decided.rank)
        return found

    if macs(0.0) > target * whole:
        allowed = f"at least {macs(0.0) / whole:.3f}, which rank 1 gives"
        raise ValueError(arguments.message("target_macs", allowed, target))
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(middle) <= target * whole else (low, middle)
    return low


class _Factorizing(Rewriter):
    """Puts two layers in place of each one that was decided on."""

    def __init__(self, decided: dict[int, tuple[_Candidate, _Decided]]) -> None:
        super().__init__()
        self._decided = decided

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The two layers."""
        if id(layer) not in self._decided:
            return None
        one, decided = self._decided[id(layer)]
        if decided.reason:
            return None
        scheme, part = one.schemes[decided.place], one.parts[decided.place]
        return scheme.make(*part.factors(decided.rank))


def _row(one: _Candidate, decided: _Decided) -> FactorizedLayer:
    macs = forms.total(_macs.of_call(node) for node in one.nodes)
    before = one.layer.count_params()
    if decided.reason:
        full = one.schemes[decided.place].full if one.schemes else None
        return FactorizedLayer(
            one.path, "", None, full, 1.0, before, before, macs, macs, decided.reason
        )
    scheme, rank = one.schemes[decided.place], decided.rank
    size = math.prod(one.layer.kernel.shape)
    return FactorizedLayer(
        one.path,
        scheme.name,
        rank,
        scheme.full,
        one.parts[decided.place].variance(rank),
        before,
        before - size + scheme.params(rank),
        macs,
        None if macs is None else scheme.macs(rank),
    )
