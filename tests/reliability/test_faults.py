"""Faults of disks, folders and neighbours: nothing is lost, and one clear error.

python -m pytest tests/reliability/test_faults.py -v
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_fitkit.checkpoint import archive, folder, lock
from tests.checkpoint.models import Crash, assert_same, train
from tests.tools import warns_once


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a fit that was killed in its fourth epoch, and a whole fit."""
    place = tmp_path_factory.mktemp("run")
    whole = train(place / "whole", list, epochs=5)
    with pytest.raises(Crash):
        train(place / "killed", list, epochs=5, crash=17)
    return place / "killed", whole


@pytest.fixture
def killed(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "killed")
    return tmp_path / "killed"


def epochs_of(place):
    return folder.newest(place)[1]["epochs"]


def test_cut_at_every_fiftieth_the_older_file_is_used(killed):
    newest = folder.saved(killed)[0]
    whole = newest.read_bytes()
    for part in range(50):
        newest.write_bytes(whole[: len(whole) * part // 50])
        with warns_once(UserWarning, "goes back to epoch-000002.npz"):
            assert epochs_of(killed) == 2
        (damaged,) = killed.glob("*.damaged")  # set aside
        assert damaged.read_bytes() == whole[: len(whole) * part // 50]
    newest.write_bytes(whole)
    assert epochs_of(killed) == 3


def test_with_flipped_bits_the_older_file_is_used_or_nothing_changed(killed):
    newest = folder.saved(killed)[0]
    whole, rng = newest.read_bytes(), np.random.default_rng(2)
    content = repr(archive.read(newest))
    went_back = 0
    for place in rng.integers(0, len(whole), 100):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        newest.write_bytes(broken)
        try:
            assert repr(archive.read(newest)) == content
        except archive.DamagedFile:
            with warns_once(UserWarning, "goes back to epoch-000002.npz"):
                assert epochs_of(killed) == 2
            went_back += 1
    assert went_back > 50


def test_after_a_damage_the_fit_still_ends_as_the_whole_one(run, killed):
    newest = folder.saved(killed)[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    with warns_once(UserWarning, "goes back to epoch-000002.npz"):
        assert_same(run[1], train(killed, list, epochs=5))


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from tests.checkpoint.models import train
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))  # a file may not grow further
try:
    train(sys.argv[1], list, epochs=5)
except OSError as error:
    print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of file sizes")
def test_a_write_that_really_fails_loses_nothing(run, killed):
    before = {path.name: path.read_bytes() for path in folder.saved(killed)}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(killed), str(Path.cwd())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "refused:" in done.stdout, done.stderr[-2000:]
    assert re.search("could not write the file after epoch 4.*File too", done.stdout)
    after = {path.name: path.read_bytes() for path in folder.saved(killed)}
    assert before == after
    assert not list(killed.glob(".epoch*"))
    assert_same(run[1], train(killed, list, epochs=5))


def test_a_folder_that_is_read_only_is_one_clear_error(killed, monkeypatch):
    killed.chmod(0o555)
    if os.access(killed, os.W_OK):  # the superuser may write anywhere

        def refused(*args):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(lock.os, "open", refused)
    with pytest.raises(OSError, match=r"`directory` must be a folder that can be wri"):
        train(killed, list, epochs=5)
    monkeypatch.undo()
    killed.chmod(0o755)
    assert epochs_of(killed) == 3


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    with pytest.raises(OSError, match=r"`directory` must be.*Permission denied"):
        train(tmp_path / "new", list, epochs=1)
