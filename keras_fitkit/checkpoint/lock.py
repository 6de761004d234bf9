"""One fit at a time in a folder: a lock that goes when its process does.

A record lock of the operating system, which a killed process loses at once and which a
forked worker does not inherit. Within one process a table tells who holds a folder.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_fitkit._core import arguments

NAME = "lock"
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

_held: dict[str, FolderLock] = {}  # by real path, in this process


class FolderLock:
    """Held from `take` to `release`."""

    def __init__(self, folder: Path, owner: Any) -> None:
        self.key = os.path.realpath(folder)
        self.owner = owner
        self.process = os.getpid()
        self._handle = -1

    def take(self, running: Sequence[Any]) -> None:
        """Takes the folder.

        Args:
            running: the callbacks of all fits that run in this process.

        Raises:
            ValueError: another fit is at work in it.
        """
        other = _held.get(self.key)
        if other is not None and other.process == self.process:
            if (
                any(other.owner is one for one in running)
                and other.owner is not self.owner
            ):
                raise ValueError(_taken(self.key, "another fit of this process"))
            other.release()  # of a fit that raised
        path = Path(self.key, NAME)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._handle)
        except OSError as error:
            text = os.read(self._handle, 200).decode(errors="replace").strip()
            os.close(self._handle)
            if error.errno in _BUSY:
                who = f"another process ({text or 'unknown'})"
                raise ValueError(_taken(self.key, who)) from None
            self._handle = -1
            warnings.warn(
                f"Checkpoint cannot lock {self.key} ({error}). Make sure yourself that "
                "no second process trains into it.",
                UserWarning,
                stacklevel=2,
            )
            return
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"process {self.process}".encode())
        _held[self.key] = self

    def release(self) -> None:
        """Gives the folder back; can be repeated."""
        if self._handle >= 0 and self.process == os.getpid():
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)  # and with it the lock
        self._handle = -1
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
