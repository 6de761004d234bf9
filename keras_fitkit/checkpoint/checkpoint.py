"""Checkpoint: a killed training goes on as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_fitkit._core import _private, arguments, fits, layers, random_state
from keras_fitkit._core.callback import FitCallback
from keras_fitkit._core.console import say
from keras_fitkit.checkpoint import _checkpoint_texts, archive, fit_state, folder, peers
from keras_fitkit.checkpoint.lock import FolderLock


class Checkpoint(FitCallback):
    """Saves the whole state of a fit at epoch ends, and goes on from it.

    Run the same script again after a crash, a kill or a full disk: the fit goes on
    after the last saved epoch, and weights, History and reports end as those of a fit
    that was never interrupted, bit for bit where the backend itself repeats its
    results. A fit that is finished does not train again.

    It must be the last callback and must be given all the others; `kf.resumable`
    builds such a list. One file holds: the variables of the model, with seed generators
    and moving statistics; those of its optimizers, with loss scale, averages and masks;
    the History; the epoch; the random states of Python, NumPy, Keras and torch; and the
    state of every callback. The callbacks of this package give theirs by `get_state`;
    those of Keras are known (EarlyStopping, ReduceLROnPlateau, ModelCheckpoint,
    LearningRateScheduler, SwapEMAWeights, TensorBoard, CSVLogger with `append=True`);
    others need `get_state` and `set_state`, or `state_dict` and `load_state_dict`.

    The learning rate that the optimizer had reached is restored. A fit that something
    has stopped (`model.stop_training`) counts as ended: to leave a fit that shall go on
    later, raise an exception.

    What is not saved: the middle of an epoch (use shorter epochs), metrics (Keras
    resets them each epoch), and the place of an iterator, see `data`.

    Args:
        directory: the folder of this run; made if it does not exist. One fit at a time
            may use it.
        callbacks: all other callbacks of the fit, in their order. Defaults to none.
        data: the data of the fit, a `ReproducibleDataset` or anything with
            `set_epoch(epoch)`, which is called before each epoch. None: what Keras gets
            is not known to be reproducible, and one line says so at a resume. Defaults
            to None; a `ReproducibleDataset` that is given to `fit` is found.
        every: epochs from one file to the next, >= 1; the last epoch always has one.
            Defaults to 1.
        keep: how many files stay, >= 1; where the newest is damaged the one before it
            is used. Defaults to 2.
        verbose: 0 silent; 1 says when a fit goes on or is finished; 2 says each save
            too. Defaults to 1.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a callback whose
            state nobody knows. When the fit begins: a model that is not built or not
            compiled; callbacks that are not those of the fit, or in another order; the
            folder of another run: another model, loss, optimizer, list of callbacks, or
            another plain setting of a layer, loss or optimizer (it says what changed);
            a folder that is in use; files of which none can be read.
        OSError: a file could not be written; the one before it is as it was.

    Example:
        >>> import keras, numpy as np, tempfile, keras_fitkit as kf
        >>> x = np.arange(8.0).reshape(8, 1)
        >>> def train(epochs, directory):
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        ...     callbacks = kf.resumable(directory, [], verbose=0)
        ...     return model.fit(
        ...         x,
        ...         2 * x,
        ...         shuffle=False,
        ...         epochs=epochs,
        ...         verbose=0,
        ...         callbacks=callbacks,
        ...     )
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     first = train(2, directory)
        ...     second = train(3, directory)  # runs one epoch
        >>> second.epoch, second.history["loss"][:2] == first.history["loss"]
        ([0, 1, 2], True)

    References:
        keras#9462, keras#14862, tf-keras#430 (the wish for callback state),
        keras#19796 (seed generators are not in weight files).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        callbacks: Any = (),
        *,
        data: Any = None,
        every: int = 1,
        keep: int = 2,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        _checkpoint_texts.check_directory(directory)
        self.directory = directory
        self.callbacks = peers.check(callbacks, Checkpoint)
        if data is not None and not callable(getattr(data, "set_epoch", None)):
            allowed = "None, a ReproducibleDataset, or data with `set_epoch(epoch)`"
            raise TypeError(arguments.message("data", allowed, data))
        self.data = data
        self.every = arguments.integer("every", every, low=1)
        self.keep = arguments.integer("keep", keep, low=1)
        self.verbose = arguments.integer("verbose", verbose, low=0, high=2)
        self._lock: FolderLock | None = None
        self._reset()

    def _reset(self) -> None:
        self._data = self.data
        self._history: Mapping[str, Any] | None = None  # to be put back
        self._folder = Path()  # where the fit began: the process may go elsewhere
        self._run: dict[str, Any] = {}  # what must be the same when it goes on

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the folder and, if there is something in it, goes on from there."""
        super().on_train_begin(logs)
        self._reset()
        model = self.model
        layers.check_keras_model("model", model, built=True)
        running = fits.running_callbacks()
        fit = fits.running_fit(model)
        if fit is not None:
            _checkpoint_texts.check_order(self, fit.callbacks)
            self._data = _checkpoint_texts.find_data(self.data, fit.x)
        path = arguments.folder("directory", self.directory).absolute()
        self._folder = path
        self._unlock()
        lock = FolderLock(path, self)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.take(running)
            self._lock = lock
            folder.sweep(path)
        except OSError as error:
            self._unlock()
            raise _checkpoint_texts.unusable(error, path) from error
        try:
            self._begin(path, fit)
        except BaseException:
            self._unlock()
            raise

    def _begin(self, path: Path, fit: Any) -> None:
        self._run = self._described()
        found = folder.newest(path)
        if found is None:
            # So that a kill in the first epoch begins with the same weights again.
            self._save(0, None, None, stopped=False)
            return
        file, content = found
        fit_state.check_same(content["run"], self._run, str(path))
        self._restore(content)
        finished = content["stopped"] or content["epochs"] >= self._planned()
        if self.verbose:
            say(_checkpoint_texts.resumed(content, finished, file, fit, self._data))

    def _restore(self, content: Mapping[str, Any]) -> None:
        model = self.model
        fit_state.FitState(model).put(content["variables"])
        for callback, state in zip(self.callbacks, content["callbacks"], strict=True):
            peers.peer(callback).put(archive.writable(state))
        random_state.set_global_state(content["random"])
        self._history = content["history"]
        if self._history is not None:  # else the file is that of the beginning
            epoch = self._planned() if content["stopped"] else content["epochs"]
            _private.start_at_epoch(model, epoch)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells the data which epoch it is."""
        super().on_epoch_begin(epoch, logs)
        self._land()
        if self._data is not None:
            self._data.set_epoch(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the file, where one is due."""
        super().on_epoch_end(epoch, logs)
        done = epoch + 1
        model = self.model
        stopped = bool(getattr(model, "stop_training", False))
        if stopped or done % self.every == 0 or done >= self._planned():
            self._save(done, epoch, logs, stopped=stopped)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the folder back."""
        super().on_train_end(logs)
        self._land()
        self._unlock()

    def _land(self) -> None:
        if self._history is not None:  # Keras has emptied its own by now
            fit_state.put_history(self.model, self._history)
            self._history = None

    def _planned(self) -> int:
        epochs = (self.params or {}).get("epochs")
        return 1 if epochs is None else int(epochs)

    def _described(self) -> dict[str, Any]:
        return {
            **fit_state.FitState(self.model).described(),
            "callbacks": [peers.peer(one).name for one in self.callbacks],
            "data": _checkpoint_texts.description(self._data),
            "backend": keras.backend.backend(),
        }

    def _save(self, done: int, epoch: int | None, logs: Any, *, stopped: bool) -> None:
        """Writes the file after `done` epochs; epoch None: before the first."""
        history = None
        if epoch is not None:
            history = fit_state.history_of(self.model, epoch, logs)
        content = {
            "stopped": stopped,
            "run": self._run,
            "keras": keras.__version__,
            "history": history,
            "random": random_state.global_state(),
            "callbacks": [peers.peer(one).get() for one in self.callbacks],
            "variables": fit_state.FitState(self.model).take(),
        }
        try:
            folder.write(self._folder, done, content, self.keep)
        except archive.Unstorable as error:
            text = _checkpoint_texts.unstorable(error, self.callbacks)
            raise ValueError(text) from None
        except OSError as error:
            self._unlock()
            raise _checkpoint_texts.unwritten(error, self._folder, done) from error
        if self.verbose > 1 and epoch is not None:
            say(f"Checkpoint: saved after epoch {done}.")

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def resumable(
    directory: str | os.PathLike[str],
    callbacks: Any,
    *,
    data: Any = None,
    every: int = 1,
    keep: int = 2,
    verbose: int = 1,
) -> list[Any]:
    """Callbacks for a fit that can be killed anywhere and run again.

    Args:
        directory: as for `Checkpoint`.
        callbacks: the callbacks of the fit, without a `Checkpoint`.
        data: as for `Checkpoint`.
        every: as for `Checkpoint`.
        keep: as for `Checkpoint`.
        verbose: as for `Checkpoint`.

    Returns:
        The callbacks, in one flat list, and a `Checkpoint` as the last.

    Raises:
        TypeError, ValueError: as `Checkpoint`.

    Example:
        >>> import tempfile, keras_fitkit as kf
        >>> directory = tempfile.mkdtemp()
        >>> [
        ...     type(one).__name__
        ...     for one in kf.resumable(directory, [kf.EarlyStopping()])
        ... ]
        ['EarlyStopping', 'Checkpoint']
    """
    checkpoint = Checkpoint(
        directory, callbacks, data=data, every=every, keep=keep, verbose=verbose
    )
    return [*checkpoint.callbacks, checkpoint]
