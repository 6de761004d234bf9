"""One fit at a time in a folder: a lock that goes when its process does.

A record lock of the operating system, which a killed process loses at once and which a
forked worker does not inherit. Within one process a table tells who holds a folder.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_fitkit._core import arguments

NAME = "lock"
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

_held: dict[str, FolderLock] = {}  # by real path, in this process


class FolderLock:
    """Held from `take` to `release`.

    Args:
        folder: the folder, which must exist when it is taken.
        owner: the callback it is taken for; not kept alive.
    """

    def __init__(self, folder: Path, owner: Any) -> None:
        self.key = os.path.realpath(folder)
        self.process, self.thread = os.getpid(), threading.current_thread()
        self._owner = weakref.ref(owner)
        self._handle = -1

    def take(self, running: Sequence[Any]) -> None:
        """Takes the folder.

        Args:
            running: the callbacks of all fits that run in this thread.

        Raises:
            ValueError: another fit is at work in it.
            OSError: the folder cannot be written to.
        """
        other = _held.get(self.key)
        if other is not None and other.process == self.process:
            if other.works(running) and other._owner() is not self._owner():
                raise ValueError(_taken(self.key, "another fit of this process"))
            other.release()  # of a fit that raised
        handle = os.open(Path(self.key, NAME), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
        except OSError as error:
            text = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
            if error.errno in _BUSY:
                who = f"another process ({text or 'unknown'})"
                raise ValueError(_taken(self.key, who)) from None
            warnings.warn(
                f"Checkpoint cannot lock {self.key} ({error}). Make sure yourself that "
                "no second process trains into it.",
                UserWarning,
                stacklevel=2,
            )
            return
        self._handle = handle
        os.ftruncate(handle, 0)
        os.write(handle, f"process {self.process}".encode())
        _held[self.key] = self

    def works(self, running: Sequence[Any]) -> bool:
        """Whether its fit goes on, as far as this thread can see."""
        owner = self._owner()
        if owner is None:
            return False
        if self.thread is not threading.current_thread():
            return self.thread.is_alive()
        return any(owner is one for one in running)

    def release(self) -> None:
        """Gives the folder back; can be repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0 and self.process == os.getpid():
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
            os.close(handle)  # and with it the lock
        if _held.get(self.key) is self:
            del _held[self.key]


def _taken(folder: str, who: str) -> str:
    hint = f"It is in use by {who}. Wait for it, or take another folder."
    allowed = "a folder in which no other fit is at work"
    return arguments.message("directory", allowed, folder, hint)


def _lock(handle: int) -> None:
    if os.name == "nt":
        windows: Any = importlib.import_module("msvcrt")
        windows.locking(handle, windows.LK_NBLCK, 1)
    else:
        posix: Any = importlib.import_module("fcntl")
        posix.lockf(handle, posix.LOCK_EX | posix.LOCK_NB)
