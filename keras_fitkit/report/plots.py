"""Pictures: what is left of the baseline, lost samples, metric against cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fitkit._core import arguments, pictures
from keras_fitkit.report.figures import ADDED, LABELS, ROWS, TEXTS
from keras_fitkit.report.forgotten import KEPT

if TYPE_CHECKING:
    from keras_fitkit.report.comparison import Comparison
    from keras_fitkit.report.compression_results import CompressionReport
    from keras_fitkit.report.forgotten import Forgotten

_BAR, _OTHER, _LOSS, _GAIN = "#0072B2", "#999999", "#D55E00", "#009E73"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHOWN, _COLUMNS = 12, 6  # samples of each kind in a gallery
_MOST_BARS = 30


def compression(report: CompressionReport, path: Any) -> Any:
    """Draws a `CompressionReport`, writes it to `path` if given."""
    target = None if path is None else arguments.path("path", path)
    metrics = report.model.metrics
    names = _shares(report) if report.baseline else {}
    height = max(2.6, 0.32 * max(len(names), min(len(report.model.storage), 20)) + 1.2)
    figure = pictures.figure(10.0 if metrics else 7.0, height)
    wide = {"width_ratios": [3, 2]} if metrics else {}
    axes = figure.subplots(1, 2 if metrics else 1, squeeze=False, **wide)[0]
    if report.baseline:
        _draw_shares(axes[0], names)
    else:
        _draw_weights(axes[0], report)
    if metrics:
        _draw_metrics(axes[1], report)
    figure.suptitle(report.summary, fontsize=9, wrap=True)
    return pictures.written(figure, target)


def forgotten(report: Forgotten, path: Any, image_shape: Any) -> Any:
    """Draws lost and gained samples, or the change of each class."""
    target = None if path is None else arguments.path("path", path)
    images = _images(report.samples, image_shape)
    if images is None or not report.flipped:
        return pictures.written(_class_bars(report), target)
    first_gained = min(len(report.lost), KEPT)  # of the samples that were kept
    kinds = (
        (_LOSS, [(i, i) for i in range(len(report.lost))]),
        (
            _GAIN,
            [
                (first_gained + i, len(report.lost) + i)
                for i in range(len(report.gained))
            ],
        ),
    )
    lines = [-(-min(len(places), _SHOWN) // _COLUMNS) for _, places in kinds]
    figure = pictures.figure(1.25 * _COLUMNS, 1.5 * sum(lines) + 0.6)
    grid = figure.subplots(sum(lines), _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for begin, (color, places) in zip((0, lines[0]), kinds, strict=True):
        for place, (sample, flip) in enumerate(places[:_SHOWN]):
            axes = grid[begin + place // _COLUMNS, place % _COLUMNS]
            _draw_sample(axes, images[sample], report, flip, color)
    told = "orange: lost, green: gained; 1 > 2: the baseline says 1, the model 2"
    figure.suptitle(f"{report.summary}\n{told}", fontsize=9)
    return pictures.written(figure, target)


def comparison(
    report: Comparison, path: Any, size: str | None, metric: str | None
) -> Any:
    """Draws a metric against size and latency, the Pareto front as a line."""
    target = None if path is None else arguments.path("path", path)
    name = metric or report.metric
    known = [one.name for one in report.models[0].metrics]
    if name is None:
        raise ValueError(
            "`data` must have been given to `kf.compare` for a picture. Received: a "
            "comparison without metrics. Pass data=(x, y)."
        )
    arguments.choice("metric", name, known)
    from keras_fitkit.report.comparison import SIZES, TIMES

    keys = [row.key for row in ROWS]
    first = arguments.choice("size", size, keys) if size else _first(report, SIZES)
    second = _first(report, TIMES) if report.latency is not None else None
    panels = [key for key in (first, second) if key is not None]
    figure = pictures.figure(5.0 * len(panels) + 1.6, 4.0)
    for axes, key in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        pareto_panel(axes, report, key, name)
    # Beside the panels: inside it would hide points.
    axes.legend(
        handles=_handles(figure),
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        fontsize=8,
        title="filled: not beaten",
        title_fontsize=8,
    )
    return pictures.written(figure, target)


def _handles(figure: Any) -> list[Any]:
    """One for each model, from the first panel that has it."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values())


def pareto_panel(axes: Any, report: Comparison, key: str, name: str) -> None:
    """Draws one panel: each model a point with the interval of its metric."""
    scale, unit = _unit(key, report)
    front = report.pareto(key, name)
    drawn: dict[str, tuple[float, float]] = {}
    for color, one in zip(_COLORS * len(report.models), report.models, strict=False):
        value, found = getattr(one, key), one.metric(name)
        if value is None or found is None:
            continue
        percent = 100 if found.method == "Wilson" else 1
        middle = percent * found.value
        low, high = (
            percent * (found.value if end is None else end)
            for end in (found.low, found.high)
        )
        axes.errorbar(
            value * scale,
            middle,
            yerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
            fmt="o" if one.name in front else "s",
            color=color,
            markerfacecolor=color if one.name in front else "white",
            capsize=3,
            label=one.name,
        )
        drawn[one.name] = value * scale, middle
    if len(front) > 1:
        points = [drawn[one] for one in front]
        axes.plot(*zip(*points, strict=True), color=_OTHER, linestyle="--", zorder=0)
    values = [x for x, _ in drawn.values()]
    if values and max(values) > 5 * min(values):
        _log_scale(axes)
    axes.set_xlabel(f"{LABELS[key]}{unit}")
    share = any(
        one.method == "Wilson" for one in report.models[0].metrics if one.name == name
    )
    told = any(
        found is not None and found.low is not None
        for found in (one.metric(name) for one in report.models)
    )
    interval = ", 95 % interval" if told else ""
    axes.set_ylabel(f"{name}{' (%)' if share else ''}{interval}")
    axes.grid(alpha=0.3)


def _log_scale(axes: Any) -> None:
    """Ticks at 1, 2 and 5, as plain numbers."""
    ticker = importlib.import_module("matplotlib.ticker")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _first(report: Comparison, keys: tuple[str, ...]) -> str | None:
    """The first figure that all models have, else the one that most have."""
    counts = {
        key: sum(getattr(one, key) is not None for one in report.models) for key in keys
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def _unit(key: str, report: Comparison) -> tuple[float, str]:
    if key.endswith("_bytes") or key in ("peak_memory", "arena"):
        return 1 / 1024, " (KiB)"
    if key in ADDED:
        longest = max((getattr(one, key) or 0.0 for one in report.models), default=0.0)
        return (1e3, " (ms)") if longest >= 1e-3 else (1e6, " (us)")
    return (1e6, " (uJ)") if key == "energy" else (1.0, "")


def _shares(report: CompressionReport) -> dict[str, tuple[float, str]]:
    """What the model keeps of the baseline's figures, with both as text."""
    found = {}
    for row in ROWS:
        ratio = report.ratio(row.key)
        if ratio is not None and report.baseline is not None:
            before = getattr(report.baseline, row.key)
            after = getattr(report.model, row.key)
            found[row.label] = (
                1 / ratio,
                f"{TEXTS[row.key](before)} to {TEXTS[row.key](after)}",
            )
    return found


def _draw_shares(axes: Any, shares: dict[str, tuple[float, str]]) -> None:
    values = [100 * share for share, _ in shares.values()]
    axes.barh(list(shares), values, color=_BAR)
    axes.axvline(100, color="black", linewidth=0.8)
    for place, (share, text) in enumerate(shares.values()):
        note = axes.text(100 * share + 1, place, f" {text}", va="center", fontsize=7)
        note.set_bbox({"color": "white", "pad": 0.5})  # above the line at 100 %
    axes.set_xlim(0, 1.6 * max([100, *values]))
    axes.invert_yaxis()
    axes.set_xlabel("left of the baseline (%)")


def _draw_weights(axes: Any, report: CompressionReport) -> None:
    rows = sorted(report.model.storage, key=lambda one: -one.total_bits)[:20]
    axes.barh(
        [one.path for one in rows], [one.total_bits / 8192 for one in rows], color=_BAR
    )
    for place, one in enumerate(rows):
        text = f" {one.bits} bits, {one.num_nonzero / max(1, one.size):.0%} not zero"
        axes.text(one.total_bits / 8192, place, text, va="center", fontsize=7)
    largest = max((one.total_bits / 8192 for one in rows), default=1.0)
    axes.set_xlim(0, 1.6 * largest)
    axes.invert_yaxis()
    axes.set_xlabel("KiB of the weight, by its bits")


def _draw_metrics(axes: Any, report: CompressionReport) -> None:
    """The main metric of both with its interval; others would need scales of theirs."""
    from keras_fitkit.report.evaluation import main_measure

    main = main_measure(report.model.metrics)
    if main is None:
        return
    both = [one for one in (report.baseline, report.model) if one is not None]
    percent = 100 if main.method == "Wilson" else 1
    drawn = []
    for place, one in enumerate(both):
        found = one.metric(main.name)
        if found is None:
            continue
        drawn.append(found)
        middle = percent * found.value
        low = percent * (found.value if found.low is None else found.low)
        high = percent * (found.value if found.high is None else found.high)
        axes.errorbar(
            place,
            middle,
            yerr=[[max(0, middle - low)], [max(0, high - middle)]],
            fmt="o",
            capsize=5,
            color=_BAR if one is report.model else _OTHER,
        )
        axes.annotate(
            str(found),
            (place, high),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize=7,
        )
    axes.set_xticks(range(len(both)), [one.name for one in both])
    axes.set_xlim(-0.7, len(both) - 0.3)
    axes.margins(y=0.25)
    unit = " (%)" if percent == 100 else ""
    interval = ", 95 % interval" if any(one.low is not None for one in drawn) else ""
    axes.set_ylabel(f"{main.name}{unit}{interval}")
    axes.grid(axis="y", alpha=0.3)


def _class_bars(report: Forgotten) -> Any:
    rows = report.classes[:_MOST_BARS]
    figure = pictures.figure(7.0, max(2.4, 0.3 * len(rows) + 1.2))
    axes = figure.subplots()
    places = np.arange(len(rows))
    changes = [100 * one.change for one in rows]
    colors = [
        (_LOSS if one.change < 0 else _GAIN) if one.significant else _OTHER
        for one in rows
    ]
    axes.barh(places, changes, color=colors)
    for place, one in enumerate(rows):
        text = f" {one.lost} lost, {one.gained} gained of {one.rows}"
        text += f", p = {one.p_value:.2g}"
        axes.text(max(0.0, 100 * one.change), place, text, va="center", fontsize=7)
    axes.axvline(0, color="black", linewidth=0.8)
    # Room for the texts on the right.
    axes.set_xlim(min([-1.0, *changes]) * 1.1, max([1.0, *changes]))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.75 * (high - low))
    axes.set_yticks(places, [f"class {one.label}" for one in rows])
    axes.invert_yaxis()
    axes.set_xlabel("change of recall (points); gray: noise can explain it")
    figure.suptitle(report.summary, fontsize=9, wrap=True)
    return figure


def _draw_sample(
    axes: Any, image: Any, report: Forgotten, flip: int, color: str
) -> None:
    axes.imshow(image, cmap="gray" if image.ndim == 2 else None)
    numbers = (*report.lost, *report.gained)
    text = f"row {numbers[flip]}: is {report.truth[flip]}\n"
    text += f"{report.baseline_named[flip]} > {report.named[flip]}"
    axes.set_title(text, fontsize=7, color=color, pad=2)


def _images(samples: Any, image_shape: Any) -> Any:
    """Samples as images of numbers in [0, 1], or None where they are none."""
    if samples is None:
        return None
    images = np.asarray(samples)
    if image_shape is not None:
        shape = tuple(arguments.integer("image_shape", n, low=1) for n in image_shape)
        if len(shape) not in (2, 3) or np.prod(shape) != np.prod(images.shape[1:]):
            allowed = f"two or three sizes that fit samples of {images.shape[1:]}"
            raise ValueError(arguments.message("image_shape", allowed, image_shape))
        images = images.reshape(len(images), *shape)
    elif images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        return None
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    images = images.astype("float32")
    low, high = (images.min(), images.max()) if images.size else (0.0, 1.0)
    return (images - low) / ((high - low) or 1.0)
