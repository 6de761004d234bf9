"""`import keras_fitkit` is cheap and leaves the process as `import keras` does."""

import json
import os
import subprocess
import sys

import pytest

REPORT = """
import json, os, sys
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"environment": dict(os.environ), "modules": modules}))
"""


def after(statement):
    """Environment and top-level modules of a new process that ran `statement`."""
    # Whatever this process has set or imported must not hide a change over there.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "MPL"))}
    clean["TF_CPP_MIN_LOG_LEVEL"] = "3"
    command = [sys.executable, "-W", "error", "-c", statement + REPORT]
    found = subprocess.run(command, env=clean, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def keras_alone():
    return after("import keras")


@pytest.fixture(scope="module")
def with_package():
    return after("import keras_fitkit")


@pytest.mark.parametrize(
    "module",
    ["tensorflow_model_optimization", "tf_keras", "matplotlib", "sklearn", "scipy"],
)
def test_leaves_heavy_modules_alone(with_package, keras_alone, module):
    # JAX and PyTorch bring some of these themselves.
    assert module not in set(with_package["modules"]) - set(keras_alone["modules"])


def test_changes_no_environment_variable(with_package, keras_alone):
    assert with_package["environment"] == keras_alone["environment"]


@pytest.mark.tensorflow_only
def test_leaves_tensorflow_to_be_configured():
    """A tensor that is made at import would start it: no threads or GPUs to choose."""
    after(
        "import keras_fitkit, tensorflow as tf\n"
        "tf.config.threading.set_intra_op_parallelism_threads(1)\n"
    )
