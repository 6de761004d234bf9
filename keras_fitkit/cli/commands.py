"""One function for each command."""

from __future__ import annotations

import argparse
import logging
from typing import Any

import keras

import keras_fitkit as kf
from keras_fitkit._core import arguments as kf_arguments
from keras_fitkit._core import files as atomic
from keras_fitkit.cli import demo
from keras_fitkit.cli.files import (
    arrays,
    existing,
    load,
    say,
    show,
    show_json,
    writable,
)


def run(options: argparse.Namespace) -> None:
    """Runs the command that was asked for.

    Args:
        options: what `keras_fitkit_command.parser` has read.
    """
    # Of functions that are traced anew, which several models in one process must be.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    {
        "report": report,
        "diagnose": diagnose,
        "export": export,
        "pack": pack,
        "unpack": unpack,
        "demo": demo.run,
    }[options.command](options)


def report(options: argparse.Namespace) -> None:
    """`keras-fitkit report`."""
    plot = writable("--plot", options.plot) if options.plot else None
    lost = writable("--forgotten", options.forgotten) if options.forgotten else None
    if lost is not None and not (options.baseline and options.data):
        raise ValueError("`--forgotten` needs --baseline and --data.")
    data = arrays("--data", options.data, ("x", "y")) if options.data else None
    say(options.quiet, f"loading {options.model}")
    model = load("model", options.model, litert=True)
    baseline = None
    if options.baseline:
        say(options.quiet, f"loading {options.baseline}")
        baseline = load("--baseline", options.baseline, litert=True)
    say(options.quiet, "measuring")
    found = kf.compression_report(
        model,
        baseline,
        None if data is None else tuple(data),
        latency=not options.no_latency,
    )
    if plot is not None:
        found.plot(plot)
        say(options.quiet, f"written: {plot}")
    if lost is not None:
        if found.forgotten is None:
            why = found.reasons.get("forgotten", "")
            raise ValueError(f"`--forgotten` cannot be drawn: {why}.")
        found.forgotten.plot(lost)
        say(options.quiet, f"written: {lost}")
    _result(options, found, found.to_markdown if options.markdown else None)


def diagnose(options: argparse.Namespace) -> None:
    """`keras-fitkit diagnose`."""
    plot = writable("--plot", options.plot) if options.plot else None
    path = existing("history", options.history)
    found = kf.diagnose(
        path, monitor=options.monitor, mode=options.mode, rule=options.rule
    )
    if plot is not None:
        found.plot(plot)
        say(options.quiet, f"written: {plot}")
    _result(options, found)


def export(options: argparse.Namespace) -> None:
    """`keras-fitkit export`."""
    path = writable("path", options.path, ".tflite")
    calibration = check = None
    if options.calibrate:
        calibration = arrays("--calibrate", options.calibrate, ("x",))[0]
        calibration = calibration[: kf_arguments.integer("--rows", options.rows, low=1)]
    if options.check:
        check = arrays("--check", options.check, ("x",))[0]
    say(options.quiet, f"loading {options.model}")
    model = load("model", options.model)
    say(options.quiet, "converting")
    found = kf.export_litert(
        model,
        path,
        mode=options.mode,
        calibration_data=calibration,
        io_dtype=options.io,
        check_data=check,
    )
    _result(options, found)


def pack(options: argparse.Namespace) -> None:
    """`keras-fitkit pack`."""
    path = writable("path", options.path, ".kfz")
    say(options.quiet, f"loading {options.model}")
    model = load("model", options.model)
    say(options.quiet, "packing")
    _result(options, kf.save_packed(model, path))


def unpack(options: argparse.Namespace) -> None:
    """`keras-fitkit unpack`."""
    path = writable("path", options.path, ".keras")
    source = existing("model", options.model, ".kfz")
    say(options.quiet, f"loading {options.model}")
    model = kf.load_packed(source)
    with atomic.atomic_path(path, suffix=".keras") as temporary:
        keras.saving.save_model(model, temporary)
    size = path.stat().st_size
    if options.json:
        show_json({"path": str(path), "size_bytes": size})
    else:
        show(f"{path}: {size:,} bytes, {model.count_params():,} parameters")


def _result(options: argparse.Namespace, found: Any, text: Any = None) -> None:
    if options.json:
        show_json(found.to_dict())
    else:
        show((text or found.render)())
