"""The figures of models, measured one after the other."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import count_macs as macs
from keras_fitkit._core import graph
from keras_fitkit.packing import packed_size
from keras_fitkit.quantization import export_litert
from keras_fitkit.report import litert_reading, sizes
from keras_fitkit.report.energy import EnergyModel
from keras_fitkit.report.figures import ModelFigures
from keras_fitkit.report.memory import peak_memory
from keras_fitkit.report.storage import WeightStorage, storage_of

OF_KERAS = (
    "peak_memory",
    "keras_bytes",
    "keras_gzip_bytes",
    "packed_bytes",
)
# What cannot be counted, packed, exported or traced is refused with one of these.
EXPECTED = (ImportError, OSError, RuntimeError, TypeError, ValueError)
UNKNOWN_SIZES = "sizes of its inputs are not known: pass example=x[:1]"


@dataclasses.dataclass(frozen=True)
class Costs:
    """What was measured of one model.

    Attributes:
        figures: without latency and metrics.
        litert: the LiteRT file, or why there is none.
        delegate: what runs it by default, "" for LiteRT's own kernels.
    """

    figures: ModelFigures
    litert: Path | str
    delegate: str = ""


def costs(
    name: str, model: Any, example: Any, folder: Path, energy: EnergyModel
) -> Costs:
    """All that can be had of a model, or of a LiteRT file, without data.

    Args:
        name: of the model in the report.
        model: a built Keras model, or the path of a LiteRT file.
        example: a batch of inputs, or None where the model knows its sizes.
        folder: for files; a new one.
        energy: what operations cost.
    """
    if isinstance(model, Path):
        return _costs_of_file(name, model, energy)
    return _costs_of_model(name, model, example, folder, energy)


def energy_of(
    macs_by_layer: Mapping[str, float],
    storage: Sequence[WeightStorage],
    energy: EnergyModel,
) -> float:
    """Joules of one example: multiplications in the type of each layer's weights."""
    owners = owners_of(macs_by_layer, storage)
    total = energy.of_weights(sum(one.total_bits for one in storage))
    for path, count in macs_by_layer.items():
        kinds = {one.arithmetic for one in owners.get(path, ())}
        total += energy.of_macs(count, kinds.pop() if len(kinds) == 1 else "float32")
    return total


def nonzero_macs(
    macs_by_layer: Mapping[str, float], storage: Sequence[WeightStorage]
) -> int:
    """Multiplications with a weight that is not zero.

    Each layer's, times the fraction of its kernels that is not zero; products of two
    activations (attention) count whole.
    """
    owners = owners_of(macs_by_layer, storage)
    total = 0.0
    for path, count in macs_by_layer.items():
        kernels = owners.get(path, ())
        size = sum(one.size for one in kernels)
        share = sum(one.num_nonzero for one in kernels) / size if size else 1.0
        total += count * share
    return round(total)


def owners_of(
    paths: Mapping[str, Any], storage: Sequence[WeightStorage]
) -> dict[str, list[WeightStorage]]:
    """The kernels of each path: those below it, and below no longer one."""
    found: dict[str, list[WeightStorage]] = {}
    for weight in storage:
        if len(weight.shape) < 2:
            continue
        fits = [
            path
            for path in paths
            if weight.path == path or weight.path.startswith(f"{path}/")
        ]
        if fits:
            found.setdefault(max(fits, key=len), []).append(weight)
    return found


def _costs_of_model(
    name: str, model: Any, example: Any, folder: Path, energy: EnergyModel
) -> Costs:
    reasons: dict[str, str] = {}
    storage = storage_of(model)
    found: dict[str, Any] = {
        "num_params": sum(one.size for one in storage),
        "num_nonzero": sum(one.num_nonzero for one in storage),
        **_counted(model, example, storage, energy, reasons),
    }
    file = _tried(lambda: sizes.keras_file(model, folder))
    if isinstance(file, str):
        reasons.update(dict.fromkeys(("keras_bytes", "keras_gzip_bytes"), file))
    else:
        found["keras_bytes"] = file.stat().st_size
        found["keras_gzip_bytes"] = sizes.gzipped(file)
    packed = _tried(lambda: packed_size(model).file_bytes)
    if isinstance(packed, str):
        reasons["packed_bytes"] = packed
    else:
        found["packed_bytes"] = packed
    litert, mode = _litert(model, folder)
    delegate = ""
    if isinstance(litert, str):
        keys = ("litert_bytes", "litert_gzip_bytes", "arena")
        reasons.update(dict.fromkeys(keys, litert))
    else:
        found["litert_mode"] = mode
        read = litert_reading.read(litert)
        found.update(_of_file(litert, read, reasons))
        delegate = "" if isinstance(read, str) else read.delegate
    figures = ModelFigures(name, storage, **found, reasons=reasons)
    return Costs(figures, litert, delegate)


def _counted(
    model: Any,
    example: Any,
    storage: Sequence[WeightStorage],
    energy: EnergyModel,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Multiplications, what follows from them, and the memory of activations."""
    found: dict[str, Any] = {}
    shape = None
    if example is not None and needs_shapes(model):
        shape = keras.tree.map_structure(lambda one: tuple(one.shape[1:]), example)
    if shape is None and needs_shapes(model):
        counted: Any = UNKNOWN_SIZES
    else:
        counted = _tried(lambda: macs.count_macs(model, shape))
    if not isinstance(counted, str) and not counted.complete:
        path, why = next(iter(counted.uncounted.items()))
        counted = f"at least {counted.total:,}; not counted: {path}: {why}"
    if isinstance(counted, str):
        keys = ("macs", "nonzero_macs", "energy")
        reasons.update(dict.fromkeys(keys, counted))
    else:
        found["macs"] = counted.total
        found["nonzero_macs"] = nonzero_macs(counted.by_layer, storage)
        found["energy"] = energy_of(counted.by_layer, storage, energy)
    memory = memory_of(model, example)
    if isinstance(memory, str):
        reasons["peak_memory"] = memory
    else:
        found["peak_memory"] = memory
    return found


def needs_shapes(model: Any) -> bool:
    """Whether the model does not know the sizes of its inputs."""
    if isinstance(model, Path):
        return False
    if not graph.is_functional(model):
        return True
    return any(size is None for one in model.inputs for size in one.shape[1:])


def memory_of(model: Any, example: Any) -> int | str:
    """Peak bytes of activations for one example, or why they are not known."""
    if not graph.is_functional(model):
        return "the calls of a subclassed model cannot be seen"
    if example is None and needs_shapes(model):
        return UNKNOWN_SIZES
    structure = graph.input_structure(model)
    symbols = keras.tree.flatten(structure)
    given = symbols if example is None else keras.tree.flatten(example)
    made = [
        keras.KerasTensor((1, *one.shape[1:]), symbol.dtype)
        for one, symbol in zip(given, symbols, strict=True)
    ]
    packed = keras.tree.pack_sequence_as(structure, made)
    found: int | str = _tried(lambda: peak_memory(model, packed))
    return found


def _litert(model: Any, folder: Path) -> tuple[Path | str, str]:
    """The LiteRT file of a model, in the format it was trained for."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return f"no export to LiteRT on {backend}", ""
    target = folder / "model.tflite"
    report = _tried(lambda: export_litert(model, target))
    if isinstance(report, str):
        return f"no LiteRT file: {report}", ""
    return target, report.mode


def _of_file(
    path: Path, read: litert_reading.FileFigures | str, reasons: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "litert_bytes": path.stat().st_size,
        "litert_gzip_bytes": sizes.gzipped(path),
    }
    if isinstance(read, str):
        reasons["arena"] = read
    elif read.batch > 1:
        reasons["arena"] = f"the file takes {read.batch} rows at once"
    elif read.arena is None:
        reasons["arena"] = "LiteRT shows no addresses of this file's tensors"
    else:
        found["arena"] = read.arena
    return found


def _costs_of_file(name: str, path: Path, energy: EnergyModel) -> Costs:
    reasons = dict.fromkeys(OF_KERAS, "a LiteRT file")
    read = litert_reading.read(path)
    found = {"litert_mode": "file", **_of_file(path, read, reasons)}
    if isinstance(read, str):
        keys = ("num_params", "num_nonzero", "macs", "nonzero_macs", "energy")
        reasons.update(dict.fromkeys(keys, read))
        return Costs(ModelFigures(name, **found, reasons=reasons), read)
    found["num_params"] = sum(one.size for one in read.storage)
    found["num_nonzero"] = sum(one.num_nonzero for one in read.storage)
    if read.uncounted:
        why = f"not counted: {', '.join(sorted(set(read.uncounted)))}"
        reasons.update(dict.fromkeys(("macs", "nonzero_macs", "energy"), why))
    else:
        found["macs"] = round(sum(read.macs.values()))
        found["nonzero_macs"] = nonzero_macs(read.macs, read.storage)
        found["energy"] = energy_of(read.macs, read.storage, energy)
    figures = ModelFigures(name, read.storage, **found, reasons=reasons)
    return Costs(figures, path, read.delegate)


def in_new_folder(
    name: str, model: Any, example: Any, root: str, energy: EnergyModel
) -> Costs:
    """As `costs`, with files in a folder of their own."""
    folder = Path(tempfile.mkdtemp(dir=root))
    return costs(name, model, example, folder, energy)


def zeros(model: Any) -> Any:
    """An example of zeros for a model that knows its sizes; None for another one."""
    if isinstance(model, Path) or needs_shapes(model):
        return None
    return keras.tree.map_structure(
        lambda one: np.zeros((1, *one.shape[1:]), one.dtype),
        graph.input_structure(model),
    )


def _tried(make: Callable[[], Any]) -> Any:
    """What is made, or why it cannot be: a report tells, it does not fail.

    What no figure is known to raise may be an error in here: it is told at once, too.
    """
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else ''}"
        if not isinstance(error, EXPECTED):
            warnings.warn(
                f"A figure of the report is missing for no known reason: {reason}. "
                "The other figures are right.",
                stacklevel=2,
            )
        return reason
