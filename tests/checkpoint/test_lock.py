"""One fit at a time in a folder, also when the one before was killed."""

import subprocess
import sys

import pytest

from keras_fitkit.checkpoint.lock import FolderLock

HOLD = """
import sys, importlib.util
from pathlib import Path
from keras_fitkit.checkpoint.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), None)
try:
    lock.take([])
except ValueError as error:
    print(error, flush=True)
    raise SystemExit(3)
print("taken", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start():
    running = []

    def begin(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_second_process_is_told_and_a_killed_one_leaves_nothing(tmp_path, start):
    first, said = start(tmp_path)
    assert said == "taken"
    _, second = start(tmp_path)
    assert f"in use by another process (process {first.pid})" in second
    with pytest.raises(ValueError, match=f"another process \\(process {first.pid}"):
        FolderLock(tmp_path, None).take([])
    first.kill()
    first.wait()
    lock = FolderLock(tmp_path, None)
    lock.take([])
    lock.release()


def test_in_one_process_the_owner_that_runs_keeps_it(tmp_path):
    first, second = object(), object()
    lock = FolderLock(tmp_path, first)
    lock.take([first])
    with pytest.raises(ValueError, match="in use by another fit of this process"):
        FolderLock(tmp_path, second).take([first, second])
    other = FolderLock(tmp_path, second)
    other.take([second])  # the fit of the first has raised
    lock.release()  # and is none of its business any more
    with pytest.raises(ValueError, match="in use"):
        FolderLock(tmp_path, first).take([second, first])
    other.release()
    other.release()


def test_other_folders_are_free(tmp_path):
    (tmp_path / "a").mkdir()
    one, other = FolderLock(tmp_path / "a", 1), FolderLock(tmp_path, 2)
    one.take([1])
    other.take([1, 2])
    one.release()
    other.release()
