"""Integers coded by NNCodec: a process of its own.

    python benchmarks/_nncodec_child.py ARRAYS.npz

Needs nncodec, not Keras and not this package: packing_integers.py starts it with the
interpreter of `--peer-python`. Prints a line of JSON: bytes, CPU seconds, and whether
the same integers came back. NNCodec imports data sets and viewers for its applications;
those that are not installed are replaced by nothing: its coder does without.
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np


class _Nothing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that cannot be imported."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        """Nothing is run."""


def _nncodec():
    nothing = _Nothing()
    sys.meta_path.append(nothing)
    while True:
        try:
            return importlib.import_module("nncodec.nnc")
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            if missing in {"nncodec", *nothing.names}:
                raise
            nothing.names.add(missing)
            for name in [one for one in sys.modules if one.startswith("nncodec")]:
                del sys.modules[name]


def main() -> None:
    """Codes the arrays and reads them back."""
    with np.load(sys.argv[1]) as stored:
        arrays = {name: stored[name] for name in stored.files}
    coder = _nncodec()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "integers.nnc")
        begin = time.process_time()
        coder.compress(dict(arrays), bitstream_path=path)
        middle = time.process_time()
        back = coder.decompress(path)
        end = time.process_time()
        size = Path(path).stat().st_size
    same = all(np.array_equal(np.asarray(back[name]), arrays[name]) for name in arrays)
    found = {"bytes": size, "cpu": [middle - begin, end - middle], "same": same}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
