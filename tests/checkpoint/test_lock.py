"""One fit at a time in a folder, also when the one before was killed."""

import subprocess
import sys
import threading

import pytest

from keras_fitkit.checkpoint.lock import FolderLock

HOLD = """
import sys
from pathlib import Path
from keras_fitkit.checkpoint.lock import FolderLock
class Owner: pass
owner = Owner()
lock = FolderLock(Path(sys.argv[1]), owner)
try:
    lock.take([])
except ValueError as error:
    print(error, flush=True)
    raise SystemExit(3)
print("taken", flush=True)
sys.stdin.readline()
"""


class Owner:
    """Stands for a callback."""


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
        FolderLock(tmp_path, Owner()).take([])
    told = FolderLock(tmp_path, Owner())
    for _ in range(2):  # being told leaves nothing behind
        with pytest.raises(ValueError, match="another process"):
            told.take([])
        told.release()
    first.kill()
    first.wait()
    owner = Owner()
    lock = FolderLock(tmp_path, owner)
    lock.take([])
    lock.release()


def test_in_one_process_the_owner_that_runs_keeps_it(tmp_path):
    first, second = Owner(), Owner()
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
    first, second = Owner(), Owner()
    one, other = FolderLock(tmp_path / "a", first), FolderLock(tmp_path, second)
    one.take([first])
    other.take([first, second])
    one.release()
    other.release()


def test_a_fit_in_another_thread_keeps_it_while_the_thread_lives(tmp_path):
    first, second = Owner(), Owner()
    lock = FolderLock(tmp_path, first)
    done = threading.Event()

    def work():
        lock.__init__(tmp_path, first)
        lock.take([first])
        taken.set()
        done.wait()

    taken = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    with pytest.raises(ValueError, match="in use by another fit of this process"):
        FolderLock(tmp_path, second).take([second])
    done.set()
    thread.join()
    other = FolderLock(tmp_path, second)
    other.take([second])
    other.release()
