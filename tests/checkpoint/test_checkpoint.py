"""Which files Checkpoint writes and reads, and what it leaves behind."""

import errno
import shutil

import keras
import pytest

import keras_fitkit as kf
from keras_fitkit.checkpoint import archive, folder
from tests.checkpoint.models import (
    Crash,
    Stateless,
    X,
    Y,
    assert_same,
    build,
    damage,
    interrupted,
    ours,
    train,
)
from tests.tools import warns_once


def test_a_fit_that_was_stopped_is_not_trained_on(tmp_path, capsys):
    def make():
        return [kf.EarlyStopping("loss", patience=0, min_delta=1e9)]

    first = train(tmp_path, make, epochs=9)
    assert len(first[1].epoch) == 2
    again = train(tmp_path, make, epochs=9, verbose=1)
    assert_same(first, again)
    assert "was stopped after 2 epochs; nothing is trained" in capsys.readouterr().out
    assert folder.saved(tmp_path)[0].name == "epoch-000002.npz"


def test_a_fit_that_has_ended_is_not_trained_on_and_more_epochs_are(tmp_path):
    whole = train(tmp_path / "whole", list, epochs=5)
    first = train(tmp_path / "again", list, epochs=3)
    assert_same(first, train(tmp_path / "again", list, epochs=3))
    assert_same(whole, train(tmp_path / "again", list, epochs=5))


def test_nothing_stays_on_the_model(tmp_path):
    model = interrupted(tmp_path, list, (8,), epochs=4)[0]
    assert len(model.fit(X, Y, epochs=2, verbose=0).epoch) == 2
    model = build()
    train(tmp_path, list, model, epochs=4)  # finished: trains nothing
    assert len(model.fit(X, Y, epochs=2, verbose=0).epoch) == 2
    model = build()
    with pytest.raises(Crash):
        train(tmp_path, list, model, epochs=6, crash=2)  # a resume that fails too
    assert len(model.fit(X, Y, epochs=3, verbose=0).epoch) == 3


def test_nothing_stays_on_the_model_when_another_callback_raises_first(tmp_path):
    class Broken(Stateless):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                raise Crash

    train(tmp_path, lambda: [Broken()], epochs=1)
    model = build()
    with pytest.raises(Crash):  # before Checkpoint's own `on_epoch_begin`
        train(tmp_path, lambda: [Broken()], model, epochs=6)
    assert len(model.fit(X, Y, epochs=1, verbose=0).epoch) == 1


def test_files_every_so_many_epochs_and_at_the_end(tmp_path):
    def names():
        return [path.name for path in folder.saved(tmp_path)]

    train(tmp_path, list, epochs=5, every=2, keep=9)
    assert names() == [f"epoch-{n:06d}.npz" for n in (5, 4, 2, 0)]
    train(tmp_path, list, epochs=7, every=2, keep=1)
    assert names() == ["epoch-000007.npz"]


def test_a_damaged_file_gives_way_to_the_one_before(tmp_path):
    whole = train(tmp_path / "whole", ours, epochs=5)
    with pytest.raises(Crash):
        train(tmp_path / "again", ours, epochs=5, crash=17)
    damage(folder.saved(tmp_path / "again")[0])
    with warns_once(UserWarning, "goes back to epoch-000002.npz.*is damaged"):
        again = train(tmp_path / "again", ours, epochs=5)
    assert_same(whole, again)


def test_when_all_are_damaged_it_is_an_error(tmp_path):
    train(tmp_path, list, epochs=2)
    for path in folder.saved(tmp_path):
        damage(path)
    with pytest.raises(ValueError, match=r"at least one whole file.*Delete its files"):
        train(tmp_path, list, epochs=3)


def test_what_a_killed_writer_left_is_swept(tmp_path):
    train(tmp_path, list, epochs=1)
    (tmp_path / ".epoch-000002.npz.77.tmp").write_bytes(b"half")
    train(tmp_path, list, epochs=2)
    assert not list(tmp_path.glob(".epoch*"))


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", ours, epochs=4)
    real = archive.write

    def full(path, content):
        if "000003" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(archive, "write", full)
        with pytest.raises(OSError, match=r"after epoch 3.*No space left.*make room"):
            train(tmp_path / "again", ours, epochs=4)
    assert_same(whole, train(tmp_path / "again", ours, epochs=4))


def test_the_folder_is_that_of_the_start_of_the_fit(tmp_path, monkeypatch):
    class Leave(Stateless):
        def on_epoch_end(self, epoch, logs=None):
            monkeypatch.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    train("run", lambda: [Leave()], epochs=3)
    assert len(folder.saved(tmp_path / "run")) == 2
    assert not (tmp_path / "elsewhere" / "run").exists()


def test_it_says_where_it_goes_on_and_when_it_saves(tmp_path, capsys):
    train(tmp_path, list, epochs=1, verbose=1)
    assert "Checkpoint" not in capsys.readouterr().out
    train(tmp_path, list, epochs=2, verbose=2)
    printed = capsys.readouterr().out
    assert "Checkpoint: goes on after epoch 1" in printed
    assert "Checkpoint: saved after epoch 2." in printed
    train(tmp_path, list, epochs=3, verbose=0)
    assert "Checkpoint" not in capsys.readouterr().out


@pytest.mark.parametrize("history", [None, keras.callbacks.History()])
def test_hooks_without_logs(tmp_path, history):
    model = build()
    if history is not None:  # of a fit that was refused before it began
        model.history = history
    checkpoint = kf.Checkpoint(tmp_path)
    checkpoint.set_model(model)
    checkpoint.set_params({"epochs": 1, "steps": 1})
    checkpoint.on_train_begin()
    checkpoint.on_epoch_begin(0)
    checkpoint.on_epoch_end(0)
    checkpoint.on_train_end()
    assert len(folder.saved(tmp_path)) == 2


def test_it_can_be_moved(tmp_path):
    train(tmp_path / "a", list, epochs=1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert train(tmp_path / "b", list, epochs=2)[1].epoch == [0, 1]
