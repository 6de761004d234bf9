"""Set-up for all tests: those in tests/ and the examples in docstrings and documents.

Examples are run by sybil: `>>>` in docstrings of the package; python fences (and `>>>`
inside them) in README.md and docs/. A docstring starts with the names of its module, a
document with nothing; each has its own namespace, each file an empty folder to work in.

To leave examples out on other backends (tf.data by itself works on all of them): in a
docstring `# doctest: +TENSORFLOW_ONLY` on one of its lines, in a document the comment
`<!-- tensorflow_only -->` anywhere. `<!-- skip: next -->` leaves out one fence.
"""

from __future__ import annotations

import doctest
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before Keras is imported; Keras itself reads KERAS_BACKEND.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores; by default each starts a thread for every core.
    for _name in ("OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"):
        os.environ.setdefault(f"{_name}_THREADS", "1")

import hypothesis
import pytest
from sybil import Sybil
from sybil.document import NotEvaluated, PythonDocStringDocument
from sybil.example import Example
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.python import import_path
from sybil.sybil import SybilCollection

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
TENSORFLOW_ONLY = re.compile(
    r"#\s*doctest:.*\+TENSORFLOW_ONLY|<!--\s*tensorflow_only\s*-->"
)
doctest.register_optionflag("TENSORFLOW_ONLY")

# The same examples in every run, as the seeds are; a deadline measures how busy the
# machine is.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")


def fresh_state() -> None:
    """The same seeds for every test; layer names and figures start afresh."""
    import keras  # here, to spare the process that only hands out the tests

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    fresh_state()


@pytest.fixture(autouse=True)
def _eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of the time of a short `fit` is the trace of its step.

    So the tests of what a callback makes of logs run without it on TensorFlow; on JAX
    the same tests run compiled.
    """
    import keras

    wanted = request.node.get_closest_marker("eager")
    if not wanted or keras.backend.backend() != "tensorflow":
        return
    compile_ = keras.Model.compile

    def eagerly(model: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("run_eagerly", not kwargs.get("jit_compile", False))
        compile_(model, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "compile", eagerly)


@pytest.fixture(autouse=True, scope="session")
def _no_grappler() -> None:
    """TensorFlow optimizes the graph of every iterator over data, at 10 ms each.

    Two for each epoch; a test needs no fast graph. The demonstration, the benchmarks
    and the soak run with it.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="session")
def _drawn_by_numpy() -> Iterator[None]:
    """JAX compiles the drawing of weights anew for every shape.

    That took half of the time of the tests of whole nets. The weights are other ones
    of the same distribution, as those of each backend are.
    """
    import keras

    if keras.backend.backend() != "jax":
        yield
        return
    from keras.src.initializers import random_initializers  # noqa: TID251

    from tests.numpy_draws import NumpyDraws

    drawn = random_initializers.random
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_initializers, "random", NumpyDraws(drawn))
        yield


_collected: list[Path] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keeps Python's garbage collector away from what earlier files have left.

    TensorFlow never frees what it has traced. The collector went through all of it,
    again and again: a quarter of the time of the tests of one room.
    """
    if item.path not in _collected:
        _collected.append(item.path)
        gc.collect()
        gc.freeze()


class DocstringDocument(PythonDocStringDocument):
    """A module's docstrings, each with a namespace of its own.

    As in the doctest module: an example that leans on another docstring would not work
    for the reader of one.
    """

    def examples(self) -> Iterator[Example]:
        """The examples, with the namespace and the text of their docstring."""
        namespaces: dict[int, dict[str, Any]] = {}
        spans = [(start, end) for start, end, _ in self.extract_docstrings(self.text)]
        for example in super().examples():
            start, end = next(s for s in spans if s[0] <= example.start <= s[1])
            example.namespace = namespaces.setdefault(start, {})
            example.around = self.text[start:end]
            yield example

    def import_document(self, example: Example) -> None:
        """Fills an empty namespace with the module's names."""
        if not example.namespace:
            example.namespace.update(vars(import_path(Path(self.path))))
        raise NotEvaluated


def enter_folder(namespace: dict[str, Any]) -> None:
    """Runs before the first example of a file."""
    fresh_state()
    namespace["_folders"] = Path.cwd(), tempfile.mkdtemp()
    os.chdir(namespace["_folders"][1])


def leave_folder(namespace: dict[str, Any]) -> None:
    """Runs after the last example of a file."""
    home, folder = namespace["_folders"]
    os.chdir(home)
    shutil.rmtree(folder, ignore_errors=True)


_where = {"setup": enter_folder, "teardown": leave_folder}
_markdown = [SkipParser(), PythonCodeBlockParser(doctest_optionflags=FLAGS)]
pytest_collect_file = SybilCollection(
    [
        Sybil(
            [DocTestParser(FLAGS)],
            path="keras_fitkit",
            pattern="*.py",
            document_types={".py": DocstringDocument},
            **_where,
        ),
        Sybil(_markdown, path="docs", pattern="*.md", **_where),
        Sybil(_markdown, pattern="README.md", excludes=["docs/*"], **_where),
    ]
).pytest()


def _readable_failure(item: SybilItem, error: Any) -> Any:
    """Sybil 10.1 stops the whole run with an IndexError when a warning is the error."""
    try:
        return _sybil_filter(item, error)
    except IndexError:
        return error.traceback


_sybil_filter = SybilItem._traceback_filter
SybilItem._traceback_filter = _readable_failure


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the shuffled examples of a file in order again; skips by backend."""
    places: dict[pytest.Item, tuple[int, int]] = {}
    first: dict[Path, int] = {}
    for index, item in enumerate(items):
        if isinstance(item, SybilItem):
            example = item.example
            around = getattr(example, "around", example.document.text)
            if TENSORFLOW_ONLY.search(around):
                item.add_marker(pytest.mark.tensorflow_only)
            places[item] = first.setdefault(item.path, index), example.line
        else:
            places[item] = index, 0
        if item.get_closest_marker("tensorflow_only"):
            skip_elsewhere(item)
    items.sort(key=places.__getitem__)


def skip_elsewhere(item: pytest.Item) -> None:
    """Skips a test that needs TensorFlow where another backend runs."""
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        reason = f"needs the TensorFlow backend, runs on {backend}"
        item.add_marker(pytest.mark.skip(reason=reason))
