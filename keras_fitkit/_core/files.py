"""Files that are whole or not there: temporary name, flush, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends.

    A block that raises leaves `path` as it was and removes the temporary file. The
    temporary name ends in `suffix` (Keras insists on `.weights.h5`) and names the
    process, so that two processes do not write into one file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{suffix}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def refuse_unwritable(name: str, path: Path) -> Path:
    """Tries a temporary file beside `path`, before any work is done.

    Args:
        name: of the argument that `path` was.
        path: a file in a folder that exists.

    Raises:
        OSError: of the kind that the system gave.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.try")
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise type(error)(
            f"`{name}` must be a file that can be written. Received: {str(path)!r}: "
            f"{error.strerror}."
        ) from error
    return path


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is journalled.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems of networks cannot sync a folder; the file is there.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
