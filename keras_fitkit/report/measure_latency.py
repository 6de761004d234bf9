"""measure_latency: how long calls take, interleaved with those of another model."""

from __future__ import annotations

import importlib
import math
import os
import platform
import random
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, graph, rows
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit.quantization import export_litert
from keras_fitkit.report.latency import Latency, LatencyReport

RUNTIMES = ("Keras", "LiteRT")
_NUMBER = re.compile(r"(?:input|args)_(\d+)")


def measure_latency(
    model: Any,
    x: Any,
    *,
    against: Any = None,
    runs: int = 50,
    runtimes: Any = RUNTIMES,
) -> LatencyReport:
    """How long a call takes, in Keras and in LiteRT.

    Calls of all models and runtimes take turns in random order, so that what disturbs
    one disturbs all; some calls before are not counted. Keras is a compiled
    `predict_on_batch`, with what that costs and as many threads as the backend takes;
    LiteRT is `invoke` of a float32 file on one thread, with XNNPACK. Ratios are of CPU
    time, within each round: on a busy machine it is steadier than the clock.

    Few multiplications do not make a fast model, and rounded channel counts
    (`kf.shrink(round_to=8)`) often do: measure.

    Args:
        model: a built model, or the path of a LiteRT file.
        x: a batch of inputs as the model takes them, such as `x[:1]`.
        against: another model or file, to be compared with. Defaults to None.
        runs: calls of each that are measured, an integer >= 5. Defaults to 50.
        runtimes: "Keras", "LiteRT", or both. LiteRT needs the TensorFlow backend and
            the package ai-edge-litert. Defaults to both.

    Returns:
        A `LatencyReport`. What could not be measured stands there with the reason.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a model that is
            not built; a file that is not there; inputs of another shape.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64)])
        >>> x = np.ones((1, 8), "float32")
        >>> report = kf.measure_latency(model, x, runs=5, runtimes="Keras")
        >>> report.get("model", "Keras").median > 0
        True
    """
    models = {"model": _checked("model", model)}
    if against is not None:
        models["against"] = _checked("against", against)
    batch = rows.length("x", x, "a batch of inputs")
    for one in models.values():
        _check_fits(one, x)
    runs = arguments.integer("runs", runs, low=5)
    chosen = [runtimes] if isinstance(runtimes, str) else list(runtimes)
    for one in chosen:
        arguments.choice("runtimes", one, RUNTIMES)
    what = {(name, kind): one for name, one in models.items() for kind in chosen}
    inputs = dict.fromkeys(models, x)
    return LatencyReport(interleaved(what, inputs, runs), batch, machine(), runs)


def interleaved(
    what: Mapping[tuple[str, str], Any],
    inputs: Mapping[str, Any],
    runs: int,
    *,
    tell: bool = False,
) -> tuple[Latency, ...]:
    """The calls of any number of models and runtimes, in turns.

    Args:
        what: by name and runtime: a model, the path of a LiteRT file, or a text that
            says why there is nothing to measure.
        inputs: a batch for each name.
        runs: calls of each.
        tell: whether a call that fails is a `Latency` with the reason, not an error.

    Returns:
        A `Latency` for each, in the order of `what`.
    """
    calls: dict[tuple[str, str], Callable[[], Any] | str] = {}
    for (name, runtime), one in what.items():
        if isinstance(one, str):
            calls[name, runtime] = one
            continue
        make = _keras_call if runtime == "Keras" else _litert_call
        try:
            call = make(one, inputs[name])
            if callable(call):
                call()
        except Exception as error:
            if not tell:
                raise
            call = _why(error)
        calls[name, runtime] = call
    measured = _measured({k: v for k, v in calls.items() if callable(v)}, runs)
    found = []
    for (name, runtime), call in calls.items():
        wall, cpu = measured.get((name, runtime), ((), ()))
        threads = 1 if runtime == "LiteRT" else None
        reason = call if isinstance(call, str) else ""
        found.append(Latency(name, runtime, wall, cpu, threads, reason))
    return tuple(found)


def in_order(details: Any) -> list[Any]:
    """The inputs of a file in the order of the model's: by their numbers."""

    def key(detail: Any) -> tuple[float, str]:
        name = str(detail["name"])
        found = _NUMBER.search(name)
        return (int(found[1]) if found else math.inf, name)

    return sorted(details, key=key)


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"the call failed: {lines[0]}"


def machine() -> str:
    """The processor, and how many cores there are."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, (str, Path)):
        path = Path(value)
        if not path.is_file():
            allowed = "a model, or the path of a LiteRT file that is there"
            raise ValueError(arguments.message(name, allowed, str(value)))
        return path
    return check_keras_model(name, value, built=True)


def _check_fits(model: Any, x: Any) -> None:
    """That inputs have the shapes of those of a functional model, where known."""
    if isinstance(model, Path) or not graph.is_functional(model):
        return
    given = [tuple(np.shape(one)) for one in keras.tree.flatten(x)]
    wanted = [tuple(one.shape) for one in model.inputs]
    same = len(given) == len(wanted) and all(
        len(shape) == len(known)
        and all(b in (None, a) for a, b in zip(shape, known, strict=True))
        for shape, known in zip(given, wanted, strict=True)
    )
    if not same:
        allowed = f"inputs of the shapes {wanted}"
        raise ValueError(arguments.message("x", allowed, given))


def _measured(
    calls: dict[tuple[str, str], Callable[[], Any]], runs: int
) -> dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]:
    rng = random.Random(0)
    for call in calls.values():
        for _ in range(3):
            call()
    wall: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    cpu: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(runs):
        for key in rng.sample(list(calls), len(calls)):
            clock, process = time.perf_counter(), time.process_time()
            calls[key]()
            cpu[key].append(time.process_time() - process)
            wall[key].append(time.perf_counter() - clock)
    return {key: (tuple(wall[key]), tuple(cpu[key])) for key in calls}


def _keras_call(model: Any, x: Any) -> Callable[[], Any] | str:
    if isinstance(model, Path):
        return "a LiteRT file"
    return lambda: model.predict_on_batch(x)


def _litert_call(model: Any, x: Any) -> Callable[[], Any] | str:
    """A call of `invoke` with the inputs set, or why there is none."""
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        return "ai-edge-litert is missing: pip install 'keras-fitkit[litert]'"
    arrays = [np.asarray(one) for one in keras.tree.flatten(x)]
    content = _content(model, len(arrays[0]))
    if isinstance(content, str):
        return content
    one = module.Interpreter(model_content=content, num_threads=1)
    details = in_order(one.get_input_details())
    if len(details) != len(arrays):
        return f"the file takes {len(details)} inputs, x has {len(arrays)}"
    for detail, array in zip(details, arrays, strict=True):
        if tuple(detail["shape"]) != array.shape:
            one.resize_tensor_input(detail["index"], array.shape)
    one.allocate_tensors()
    for detail, array in zip(details, arrays, strict=True):
        one.set_tensor(detail["index"], array.astype(detail["dtype"]))
    return lambda: one.invoke()


def _content(model: Any, batch: int) -> bytes | str:
    """The bytes of a file, or why there are none."""
    if isinstance(model, Path):
        return model.read_bytes()
    if keras.backend.backend() != "tensorflow":
        return f"no export to LiteRT on {keras.backend.backend()}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            export_litert(model, path, mode="float32", batch_size=batch)
        except Exception as error:  # what the converter refuses is part of the report
            return f"the export failed: {str(error).splitlines()[0]}"
        return path.read_bytes()
