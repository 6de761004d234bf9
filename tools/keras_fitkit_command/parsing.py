"""The arguments of `keras-fitkit`, with the standard library alone."""

from __future__ import annotations

import argparse

DESCRIPTION = "Watch the fit of Keras 3 models, and make them small."
CODES = """exit codes:
  0    done
  1    an error: one line on the standard error says which (--traceback shows all)
  2    arguments that cannot be read
  130  interrupted

Results go to the standard output, progress and errors to the standard error. The
backend is that of Keras (KERAS_BACKEND); LiteRT files need tensorflow.
"""
MODES = ("auto", "float32", "float16", "dynamic", "int8", "int16x8")
DATA = ".npz file with the arrays x and y"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(
        prog="keras-fitkit",
        description=DESCRIPTION,
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=_version())
    commands = found.add_subparsers(dest="command", required=True, metavar="command")
    _report(commands)
    _diagnose(commands)
    _export(commands)
    _pack(commands)
    _demo(commands)
    return found


def _version() -> str:
    """That of the installed package, without importing it."""
    from importlib import metadata

    try:
        return f"keras-fitkit {metadata.version('keras-fitkit')}"
    except metadata.PackageNotFoundError:
        return "keras-fitkit (not installed)"


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    *examples: str,
) -> argparse.ArgumentParser:
    lines = "\n".join(f"  keras-fitkit {name} {one}".rstrip() for one in examples)
    found = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--json", action="store_true", help="print JSON, not a table")
    found.add_argument("--quiet", action="store_true", help="no progress")
    found.add_argument("--traceback", action="store_true", help="show where it failed")
    return found


def _report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _command(
        commands,
        "report",
        "what a model costs and how good it is",
        "model.keras",
        "model.keras --baseline big.keras --data val.npz --plot report.png",
        "model.tflite --baseline big.keras --data val.npz --no-latency --json",
    )
    model = ".keras, .kfz (packed) or .tflite file"
    one.add_argument("model", help=model)
    one.add_argument("--baseline", help=f"the model to compare with: {model}")
    one.add_argument("--data", metavar="VAL.npz", help=f"{DATA}: metrics, tests")
    one.add_argument("--no-latency", action="store_true", help="time no calls")
    one.add_argument("--plot", metavar="PNG", help="write a picture of the report")
    one.add_argument(
        "--forgotten", metavar="PNG", help="write a picture of what the model lost"
    )
    one.add_argument("--markdown", action="store_true", help="print Markdown")


def _diagnose(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _command(
        commands,
        "diagnose",
        "did this run overfit? The verdict on a file of keras.callbacks.CSVLogger",
        "history.csv",
        "history.csv --plot gap.png",
        "history.csv --monitor accuracy --json",
    )
    one.add_argument("history", help="the file that CSVLogger wrote")
    one.add_argument("--monitor", default="loss", help="the metric (default: loss)")
    one.add_argument("--mode", default="auto", choices=("auto", "min", "max"))
    one.add_argument(
        "--rule",
        default="auto",
        choices=("auto", "gl", "pq", "up"),
        help="how overfitting is flagged (default: auto)",
    )
    one.add_argument("--plot", metavar="PNG", help="write a picture of the curves")


def _export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _command(
        commands,
        "export",
        "write a LiteRT file, read it again and compare it with the model",
        "model.keras model.tflite",
        "model.keras model.tflite --mode int8 --calibrate train.npz --check val.npz",
    )
    one.add_argument("model", help=".keras or .kfz (packed) file")
    one.add_argument("path", help="the .tflite file to write")
    one.add_argument("--mode", default="auto", choices=MODES)
    one.add_argument(
        "--calibrate",
        metavar="TRAIN.npz",
        help=".npz file with the array x, for int8 and int16x8 of a plain model",
    )
    one.add_argument(
        "--rows", type=int, default=500, help="rows to calibrate with (default: 500)"
    )
    one.add_argument("--check", metavar="VAL.npz", help="compare on these x")
    one.add_argument("--io", default="float32", choices=("float32", "int8"))


def _pack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _command(
        commands,
        "pack",
        "write a small file: zeros, codebooks and grids entropy-coded",
        "model.keras model.kfz",
    )
    one.add_argument("model", help=".keras file")
    one.add_argument("path", help="the .kfz file to write")
    one = _command(
        commands,
        "unpack",
        "write the .keras file of a packed one",
        "model.kfz model.keras",
    )
    one.add_argument("model", help=".kfz file")
    one.add_argument("path", help="the .keras file to write")


def _demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _command(
        commands,
        "demo",
        "train, prune and quantize a small net on real digits, and compare",
        "",
        "--out pictures",
    )
    one.add_argument(
        "--out", metavar="FOLDER", help="write pictures and models (default: nothing)"
    )
    one.add_argument("--seed", type=int, default=0)
