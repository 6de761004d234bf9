import os

import pytest

from keras_fitkit._core.files import atomic_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_and_raise(path, error):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half of it")
        raise error


def test_file_appears_whole(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_file_is_replaced(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt("x")])
def test_failing_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error), match=str(error)):
        write_and_raise(path, error)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_failing_sync_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left"), atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_data_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    events = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append("sync"), real_sync(handle))
    )
    monkeypatch.setattr(
        os, "replace", lambda *names: (events.append("rename"), real_replace(*names))
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert events == ["sync", "rename", "sync"] or os.name == "nt"


def test_nothing_written_is_an_error(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError, match=r"a\.bin"), atomic_path(path):
        pass
    assert path.read_bytes() == b"old"


def test_suffix_and_process_are_in_the_temporary_name(tmp_path):
    with atomic_path(tmp_path / "a", suffix=".weights.h5") as temporary:
        temporary.write_bytes(b"")
        assert temporary.name.endswith(".weights.h5")
        assert str(os.getpid()) in temporary.name
    assert names(tmp_path) == ["a"]
