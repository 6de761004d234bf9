"""The kinds of teacher: a network, several of them, or outputs that are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import arguments, finite, layers
from keras_fitkit.distillation import logits_maths as maths
from keras_fitkit.distillation import masks, taps
from keras_fitkit.distillation.distillation_loss import OutputSpec
from keras_fitkit.distillation.network import ModelOutputs, Network

_KINDS = (
    "a keras.Model, a callable, a list of these or of pairs (one, weight), or what "
    "`kf.cache_teacher` gave"
)


class NetworkTeacher:
    """One teacher or several, asked anew for every batch.

    Args:
        members: pairs of a model or callable and its weight.
        paths: of the layers that losses want; with several members the number of one
            comes first, as in "0/block4".
        from_logits: as given to the distiller.
        logits: whether logits are wanted.

    Raises:
        ValueError: a layer without the number of its teacher, or heads that differ.
    """

    cached, absent = False, False

    def __init__(
        self,
        members: Sequence[tuple[Any, float]],
        paths: Iterable[str],
        from_logits: Any,
        logits: bool,
    ) -> None:
        self._places = {path: _place(path, len(members)) for path in paths}
        total = sum(weight for _, weight in members)
        self.weights = [weight / total for _, weight in members]
        self.networks = [
            Network(
                "teacher",
                one,
                [path for owner, path in self._places.values() if owner == number],
                from_logits,
                logits,
            )
            for number, (one, _) in enumerate(members)
        ]
        first = self.networks[0]
        for other in self.networks[1:]:
            _refuse_other_outputs(first, other)
            if [h and h.activation != "sigmoid" for h in first.heads] != [
                h and h.activation != "sigmoid" for h in other.heads
            ]:
                allowed = "a list of models with the same kind of heads"
                raise ValueError(arguments.message("teacher", allowed, other.model))
        self._sigmoids: dict[int, bool] = {}

    @property
    def paths(self) -> list[str]:
        """The layers that losses want."""
        return list(self._places)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile every layer of every model."""
        return all(
            getattr(layer, "supports_jit", True)
            for network in self.networks
            if network.is_keras
            for layer in (network.model, *taps.named_layers(network.model).values())
        )

    @property
    def number(self) -> int:
        """How many outputs there are."""
        return self.networks[0].number

    @property
    def variables(self) -> list[Any]:
        """Every variable of every model."""
        return [
            variable
            for network in self.networks
            if network.is_keras
            for variable in network.model.variables
        ]

    def output_spec(self, index: int) -> OutputSpec:
        """What is known of an output."""
        return self.networks[0].output_spec(index)

    def require_logits(self, index: int, sigmoid: bool) -> None:
        """Makes sure of the logits of an output, as `Network` does."""
        for network in self.networks:
            network.require_logits(index, sigmoid)

    def use_as(self, index: int, sigmoid: bool | None) -> None:
        """Notes how a loss reads an output: the probabilities to be averaged are those.

        Raises:
            ValueError: another loss reads it otherwise, and there are several teachers.
        """
        if sigmoid is None or len(self.networks) == 1:
            return
        if self._sigmoids.setdefault(index, sigmoid) != sigmoid:
            allowed = "one model where losses read an output as sigmoids and as softmax"
            received = f"{len(self.networks)} models"
            raise ValueError(arguments.message("teacher", allowed, received))

    def layer_spec(self, path: str) -> OutputSpec:
        """What is known of a layer."""
        owner, inner = self._places[path]
        return self.networks[owner].layer_spec(inner)

    def output_names(self) -> list[str]:
        """The names of the outputs."""
        return self.networks[0].output_names()

    def __call__(self, inputs: Any) -> ModelOutputs:
        """What they say of a batch, in inference mode and without a gradient."""
        with _no_gradient():
            found = [network(inputs, training=False) for network in self.networks]
            one = found[0] if len(found) == 1 else self._mixed(found)
        features = {
            path: found[owner].features[inner]
            for path, (owner, inner) in self._places.items()
        }
        return ModelOutputs(
            outputs=_stopped(one.outputs),
            logits=_stopped(list(one.logits)),
            features=_stopped(features),
        )

    def _mixed(self, found: Sequence[ModelOutputs]) -> ModelOutputs:
        logits: list[Any] = []
        for place, head in enumerate(self.networks[0].heads):
            values = [one.logits[place] for one in found]
            if head is None or any(one is None for one in values):
                logits.append(None)
                continue
            units = values[0].shape[-1]
            by_head = head.activation == "sigmoid" or units == 1
            sigmoid = self._sigmoids.get(place, by_head)
            mix = maths.mixed_sigmoid if sigmoid else maths.mixed_softmax
            logits.append(mix(values, self.weights))
        return ModelOutputs(outputs=logits, logits=logits, features={})


def _refuse_other_outputs(first: Network, other: Network) -> None:
    """Raises where two teachers cannot be averaged."""
    counts = first.number, other.number
    if counts[0] != counts[1]:
        allowed = f"a list of models with the same outputs: the first has {counts[0]}"
        raise ValueError(arguments.message("teacher", allowed, f"{counts[1]} outputs"))
    for index in range(first.number):
        specs = first.output_spec(index), other.output_spec(index)
        classes = [one.classes for one in specs]
        if None not in classes and classes[0] != classes[1]:
            allowed = (
                f"a list of models with the same classes: the first has {classes[0]}"
            )
            raise ValueError(arguments.message("teacher", allowed, str(specs[1])))


def _place(path: str, members: int) -> tuple[int, str]:
    """Whose layer a path is, and its path there."""
    if members == 1:
        return 0, path
    first, _, rest = path.partition("/")
    if first.isdigit() and int(first) < members and rest:
        return int(first), rest
    allowed = f"a path that begins with the number of one of the {members} teachers"
    hint = f"For the first: '0/{path}'."
    raise ValueError(arguments.message("teacher_layer_name", allowed, path, hint))


def _stopped(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda one: (
            None if one is None else masks.same_mask(ops.stop_gradient(one), one)
        ),
        structure,
    )


def members_of(teacher: Any) -> list[tuple[Any, float]]:
    """The argument `teacher` as pairs of a model or callable and a weight.

    Raises:
        TypeError, ValueError: it is none of these, or not built, or has no numbers.
    """
    several = isinstance(teacher, (list, tuple)) and len(teacher) > 0
    found = []
    for one in teacher if several else [teacher]:
        weight = 1.0
        if several and isinstance(one, tuple) and len(one) == 2:
            one, weight = (
                one[0],
                arguments.number(
                    "teacher",
                    one[1],
                    low=0,
                    include_low=False,
                    hint="That is a weight.",
                ),
            )
        found.append((_checked(one), weight))
    return found


def _checked(model: Any) -> Any:
    layers.refuse_legacy_keras("teacher", model)
    if isinstance(model, type) or not callable(model):
        raise TypeError(arguments.message("teacher", _KINDS, model))
    if isinstance(model, keras.Model):
        layers.check_keras_model("teacher", model, built=True)
        broken = finite.non_finite_weights(model)
        if broken:
            allowed = "a model whose weights are numbers"
            hint = f"NaN or infinite: {', '.join(broken[:3])}."
            raise ValueError(arguments.message("teacher", allowed, model.name, hint))
    return model


@contextlib.contextmanager
def _no_gradient() -> Iterator[None]:
    """On torch: without it every activation of the teacher would be kept."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield
