"""membership_auc: can a row be told to have been trained on, by its loss?"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, roc, rows
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit._core.penalty import penalty
from keras_fitkit.evidence import inputs, tables
from keras_fitkit.evidence.running import Data, sample

CAUTION = (
    "one attack, by the loss alone: a low value is no guarantee of privacy, others "
    "find more, and single rows may be exposed where the average is not"
)
_CHUNK = 256  # rows at once
_HEADINGS = ("membership AUC", "95 %", "members", "others")


@dataclasses.dataclass(frozen=True, repr=False)
class MembershipReport:
    """How much a model remembers of single training rows.

    Attributes:
        auc: the chance that a row it was trained on has a lower loss than one it was
            not, in [0, 1]; 0.5 where nothing is remembered.
        low, high: about 95 % for it (Hanley and McNeil).
        members, non_members: how many rows of each were measured.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.evidence import MembershipReport
        >>> MembershipReport(0.71, 0.67, 0.75, 300, 200).remembers
        True
    """

    auc: float
    low: float
    high: float
    members: int
    non_members: int

    @property
    def remembers(self) -> bool:
        """Whether the whole interval lies above one half."""
        return self.low > 0.5

    @property
    def summary(self) -> str:
        """The report in one line."""
        verdict = (
            "training rows can be told from others"
            if self.remembers
            else "training rows cannot be told from others by their loss"
        )
        return f"{verdict}: AUC {self.auc:.3f} ({self.low:.3f} to {self.high:.3f})"

    def render(self) -> str:
        """The report as text, with its caution."""
        counts = f"{self.members} members, {self.non_members} others"
        return f"{self.summary}\n  {counts}\n  {CAUTION}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<MembershipReport: {self.summary}>"

    def _repr_html_(self) -> str:
        span = f"{self.low:.3f} to {self.high:.3f}"
        row = (f"{self.auc:.3f}", span, str(self.members), str(self.non_members))
        return tables.as_html(self.summary, _HEADINGS, [row], [CAUTION])


def membership_auc(
    model: Any, members: Any, non_members: Any, *, limit: int = 512
) -> MembershipReport:
    """How well the loss of a row tells whether the model was trained on it.

    The attack of Yeom et al.: what is fitted better was seen. Over all thresholds that
    is one number, the area under the ROC curve of minus the loss: 0.5 for a model that
    treats both alike, 1.0 for one that knows its training rows by heart. It grows with
    overfitting, but a model can remember rows without a gap between its mean losses.

    The two sets must come from the same distribution, or what is measured is their
    difference: validation rows that are harder look like non-members.

    Args:
        model: a compiled model.
        members: (x, y) of rows that it was trained on.
        non_members: (x, y) of rows that it was not, such as the validation set.
        limit: at most so many rows of each are measured, >= 2. Defaults to 512.

    Returns:
        A `MembershipReport`. It is no guarantee of privacy: an upper bound would need
        differential privacy, this is one attack that worked or did not.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a model that is
            not compiled; losses that are not finite.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> keras.utils.set_random_seed(0)
        >>> x = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
        >>> y = (x[:, :1] > 0).astype("float32")
        >>> model = keras.Sequential([keras.layers.Dense(1, "sigmoid")])
        >>> model.compile("adam", "binary_crossentropy")
        >>> report = kf.membership_auc(model, (x[:40], y[:40]), (x[40:], y[40:]))
        >>> report.remembers  # it was not trained at all
        False

    Reference: Yeom, Giacomelli, Fredrikson and Jha, "Privacy risk in machine learning:
    analyzing the connection to overfitting", IEEE CSF 2018, arXiv:1709.01604; Hanley
    and McNeil, Radiology 143, 1982, for the interval.
    """
    check_keras_model("model", model)
    if not model.compiled:
        allowed = "compiled: its loss is what is compared"
        raise ValueError(arguments.message("model", allowed, model.name))
    limit = arguments.integer("limit", limit, low=2)
    seen = _losses("members", model, inputs.pair("members", members), limit)
    unseen = _losses(
        "non_members", model, inputs.pair("non_members", non_members), limit
    )
    return of_losses(seen, unseen)


def of_losses(seen: Any, unseen: Any) -> MembershipReport:
    """The report of the losses of rows that were trained on and of rows that were not.

    From numbers alone, for whoever has measured them.
    """
    auc = roc.area(-np.asarray(seen), -np.asarray(unseen))
    low, high = roc.interval(auc, len(seen), len(unseen))
    return MembershipReport(auc, low, high, len(seen), len(unseen))


def _losses(name: str, model: Any, data: Data, limit: int) -> Any:
    count = rows.length(name, data[0], inputs.ARRAYS)
    if count < 2:
        raise ValueError(arguments.message(name, "2 rows or more", f"{count} row"))
    found = row_losses(model, sample(data, count, limit))
    if not np.isfinite(found).all():
        hint = "The model has diverged."
        allowed = "rows whose losses are finite"
        raise ValueError(arguments.message(name, allowed, "NaN or infinity", hint))
    return found


def row_losses(model: Any, data: Data) -> Any:
    """The loss of each row, up to a constant (the penalty of the regularizers)."""
    x, y = data
    count = len(keras.tree.flatten(x)[0])
    predicted = _predicted(model, x, count)
    found = _at_once(model, y, predicted)
    if found is not None:
        total = float(arrays.to_numpy(_computed(model, x, y, predicted)))
        mean = float(found.mean()) + penalty(model)
        if abs(total - mean) <= 1e-3 * max(1.0, abs(total)):
            return found
    return np.array([_one(model, x, y, predicted, row) for row in range(count)])


def _predicted(model: Any, x: Any, count: int) -> Any:
    """Predictions without a trace: `predict` traces a function for each new model."""
    found = [
        keras.tree.map_structure(
            arrays.to_numpy, model(rows.take(x, slice(at, at + _CHUNK)), training=False)
        )
        for at in range(0, count, _CHUNK)
    ]
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *found)


def _one(model: Any, x: Any, y: Any, predicted: Any, row: int) -> float:
    picked = slice(row, row + 1)
    parts = (rows.take(each, picked) for each in (x, y, predicted))
    return float(arrays.to_numpy(_computed(model, *parts)))


def _computed(model: Any, x: Any, y: Any, predicted: Any) -> Any:
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, (y, predicted))
    return model.compute_loss(x=x, y=tensors[0], y_pred=tensors[1], training=False)


def _at_once(model: Any, y: Any, predicted: Any) -> Any:
    """The losses of all rows of a model with one loss, or None.

    A loss of the user's may not be made anew with another reduction; then they are
    computed one by one.
    """
    if isinstance(model.loss, (dict, list, tuple)):
        return None
    try:
        loss = keras.losses.get(model.loss)
        if isinstance(loss, keras.losses.Loss):
            config = {**loss.get_config(), "reduction": None}
            loss = type(loss).from_config(config)
        target, output = (keras.ops.convert_to_tensor(one) for one in (y, predicted))
        values = arrays.to_numpy(loss(target, output))
    except Exception:
        return None
    if values.ndim == 0 or len(values) != len(predicted):
        return None
    return values.reshape(len(values), -1).mean(axis=1)
