"""What a smaller model forgot: classes and samples, not only the mean."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np

from keras_fitkit._core import rows
from keras_fitkit.report import statistics

KEPT = 48  # samples of each kind that a picture can show


@dataclasses.dataclass(frozen=True)
class ClassChange:
    """What happened to the rows of one class.

    Attributes:
        label: its number.
        rows: how many rows are of it.
        baseline_recall, recall: the fraction that baseline and model name rightly.
        lost, gained: rows that only the baseline names rightly, and only the model.
        p_value: of McNemar's exact test on them, corrected for the number of classes
            (Holm).

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import ClassChange
        >>> round(ClassChange(3, 40, 0.95, 0.80, 6, 0, 0.31).change, 2)
        -0.15
    """

    label: int
    rows: int
    baseline_recall: float
    recall: float
    lost: int
    gained: int
    p_value: float

    @property
    def change(self) -> float:
        """Recall of the model minus that of the baseline."""
        return self.recall - self.baseline_recall

    @property
    def significant(self) -> bool:
        """Whether the change is more than noise, over all classes."""
        return self.p_value < statistics.ALPHA


@dataclasses.dataclass(frozen=True, repr=False)
class Forgotten:
    """Which classes and which samples a model lost against its baseline.

    A compressed model can keep its accuracy and still fail on other samples, and on
    some classes more than on others (Hooker et al. 2019).

    Attributes:
        classes: a `ClassChange` for each class in the data, the largest loss first.
        lost: numbers of the rows that the baseline names rightly and the model does
            not.
        gained: numbers of the rows that only the model names rightly.
        rows: how many there are.
        truth, named, baseline_named: the class of each row in `lost` and then `gained`,
            what the model names, and what the baseline names.
        samples: the inputs of the first 48 of each of the two; None where the model
            takes several inputs.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> x, y = np.eye(3, dtype="float32"), np.arange(3)
        >>> def net(kernel):
        ...     dense = keras.layers.Dense(3, use_bias=False)
        ...     model = keras.Sequential([keras.Input((3,)), dense])
        ...     dense.set_weights([kernel])
        ...     model.compile(loss="sparse_categorical_crossentropy", metrics=["acc"])
        ...     return model
        >>> small = net(np.eye(3) * [1, 1, 0] + [0, 0.5, 0])
        >>> report = kf.compression_report(small, net(np.eye(3)), (x, y), latency=False)
        >>> report.forgotten.lost, report.forgotten.classes[0].label
        ((2,), 2)

    References:
        Hooker, Courville, Clark, Dauphin, Frome, "What do compressed deep neural
        networks forget?", 2019, arXiv:1911.05248.
    """

    classes: tuple[ClassChange, ...]
    lost: tuple[int, ...]
    gained: tuple[int, ...]
    rows: int
    truth: tuple[int, ...]
    named: tuple[int, ...]
    baseline_named: tuple[int, ...]
    samples: Any = dataclasses.field(default=None, compare=False)

    @property
    def flipped(self) -> int:
        """Rows that one of the two names rightly and the other does not."""
        return len(self.lost) + len(self.gained)

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = (
            f"{len(self.lost)} of {self.rows} samples lost, {len(self.gained)} gained"
        )
        worse = [one for one in self.classes if one.significant and one.change < 0]
        if not worse:
            return f"{text}; no class lost more than noise can explain"
        named = ", ".join(f"{one.label} ({100 * one.change:+.0f})" for one in worse)
        return f"{text}; classes that lost recall (points): {named}"

    def render(self) -> str:
        """The report as text, a line a class."""
        lines = [self.summary, "class   rows  recall          change  lost  gained  p"]
        for one in self.classes:
            mark = " *" if one.significant else ""
            lines.append(
                f"{one.label:>5}  {one.rows:>5}  {one.baseline_recall:>6.1%} > "
                f"{one.recall:<6.1%} {100 * one.change:>+6.1f}  {one.lost:>4}  "
                f"{one.gained:>6}  {one.p_value:.2g}{mark}"
            )
        lines.append("p: McNemar's exact test in each class, corrected (Holm)")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes, without the samples."""
        found = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if one.name != "samples"
        }
        return {
            key: [dataclasses.asdict(row) for row in value]
            if key == "classes"
            else list(value)
            if isinstance(value, tuple)
            else value
            for key, value in found.items()
        }

    def plot(self, path: Any = None, *, image_shape: Any = None) -> Any:
        """The lost and gained samples as pictures where they are images, else bars.

        Args:
            path: the image file, by its suffix; None: none is written.
            image_shape: (height, width) or (height, width, channels) of samples that
                are flat images. Defaults to None: images are inputs of shape (height,
                width, 1, 3 or 4).

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a path that cannot be written, or an `image_shape` that does not
                fit the samples.
        """
        from keras_fitkit.report import plots

        return plots.forgotten(self, path, image_shape)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Forgotten: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.render())}</pre>"


def forgotten(truth: Any, named: Any, baseline_named: Any, x: Any) -> Forgotten:
    """What a model lost, from the classes that it and its baseline name.

    Args:
        truth: the class of each row.
        named: what the model names.
        baseline_named: what the baseline names.
        x: the inputs.
    """
    right, before = named == truth, baseline_named == truth
    lost, gained = np.flatnonzero(before & ~right), np.flatnonzero(right & ~before)
    found = []
    for label in np.unique(truth):
        of_it = truth == label
        counts = (
            int((of_it & before & ~right).sum()),
            int((of_it & right & ~before).sum()),
        )
        found.append(
            ClassChange(
                int(label),
                int(of_it.sum()),
                float(before[of_it].mean()),
                float(right[of_it].mean()),
                *counts,
                statistics.mcnemar(*counts),
            )
        )
    corrected = statistics.holm([one.p_value for one in found])
    changes = [
        dataclasses.replace(one, p_value=p)
        for one, p in zip(found, corrected, strict=True)
    ]
    changes.sort(key=lambda one: (one.change, one.p_value))
    both = np.concatenate([lost, gained])
    shown = np.concatenate([lost[:KEPT], gained[:KEPT]])
    return Forgotten(
        tuple(changes),
        tuple(lost.tolist()),
        tuple(gained.tolist()),
        len(truth),
        tuple(truth[both].tolist()),
        tuple(named[both].tolist()),
        tuple(baseline_named[both].tolist()),
        rows.take(x, shown) if hasattr(x, "shape") else None,
    )
