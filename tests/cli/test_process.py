"""The command line in a process of its own: start-up, exit codes, clean output."""

import json
import subprocess
import sys

import numpy as np

from tests.report import nets

HEAVY = ("keras", "numpy", "tensorflow", "jax", "torch", "keras_fitkit", "rich")
LISTED = """
import sys
from keras_fitkit_command import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print(code, *sorted(set(sys.modules) & set({heavy!r})))
"""


def process(*arguments):
    command = [sys.executable, "-m", "keras_fitkit_command", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_help_imports_nothing_heavy():
    program = LISTED.format(heavy=HEAVY)
    command = [sys.executable, "-c", program, "report", "--help"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "--baseline" in found.stdout
    assert found.stdout.splitlines()[-1] == "0"  # and no module


def test_usage_is_code_2():
    found = process("reprot")
    assert found.returncode == 2
    assert "invalid choice: 'reprot'" in found.stderr
    assert found.stdout == ""


TWICE = """
import sys
from keras_fitkit_command import main
model, data, packed = sys.argv[1:]
assert main(["pack", "no.keras", packed]) == 1
sys.exit(main(["report", model, "--data", data, "--no-latency", "--json"]))
"""


def test_results_and_errors_go_apart(tmp_path):
    """Two commands in one process: most of its time is the import of the backend."""
    model, data, packed = (tmp_path / name for name in ("m.keras", "v.npz", "m.kfz"))
    nets.given(np.eye(4)).save(model)
    np.savez(data, x=np.eye(4, dtype="float32"), y=np.arange(4))
    command = [sys.executable, "-c", TWICE, model, data, packed]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["model"]["macs"] == 16  # nothing else is there
    assert "keras-fitkit: error: `model` must be a file that exists" in found.stderr
    assert "Traceback" not in found.stderr
    assert not packed.exists()
