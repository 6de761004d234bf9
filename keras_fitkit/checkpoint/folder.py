"""The files of one run: the newest good one, and how many are kept."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.checkpoint import archive

FORMAT = "keras_fitkit.checkpoint"
VERSION = 1
_NAME = re.compile(r"epoch-(\d{6,})\.npz")


def saved(folder: Path) -> list[Path]:
    """The files there are, newest first."""
    found = [
        (match, path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found, key=lambda one: -int(one[0].group(1)))]


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest file that is whole, and what is in it; None in a fresh folder.

    Warns once if a newer one is damaged, and sets it aside.

    Raises:
        ValueError: there are files, and all of them are damaged; or they are of a newer
            version of this package.
    """
    damaged: dict[Path, str] = {}
    for path in saved(folder):
        try:
            content = archive.read(path)
        except archive.DamagedFile as error:
            damaged[path] = str(error)
            continue
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            allowed = f"a folder with files of format {FORMAT}, version {VERSION}"
            received = f"{content.get('format')} {content.get('version')}"
            raise ValueError(arguments.message("directory", allowed, received))
        if damaged:
            warnings.warn(
                f"Checkpoint goes back to {path.name}, because a newer file cannot be "
                f"read: {'; '.join(damaged.values())}",
                UserWarning,
                stacklevel=2,
            )
            for broken in damaged:  # or it would count among those that are kept
                broken.replace(broken.with_name(f"{broken.name}.damaged"))
        return path, content
    if damaged:
        hint = "Delete its files to train from the beginning."
        allowed = "a folder with at least one whole file, or an empty one"
        received = f"{folder}: {'; '.join(damaged.values())}"
        raise ValueError(arguments.message("directory", allowed, received, hint))
    return None


def write(folder: Path, epochs: int, content: Mapping[str, Any], keep: int) -> None:
    """Writes the file after `epochs` epochs; then deletes all but the `keep` newest.

    Raises:
        OSError: it could not be written; the files before it are as they were.
        archive.Unstorable: a value that cannot be stored.
    """
    head = {"format": FORMAT, "version": VERSION, "epochs": epochs}
    archive.write(folder / f"epoch-{epochs:06d}.npz", {**head, **content})
    for path in saved(folder)[keep:]:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Deletes what a killed process had begun to write, and tries to write.

    Raises:
        OSError: the folder cannot be written to.
    """
    probe = folder / f".epoch-probe-{os.getpid()}.tmp"
    probe.touch()
    for path in folder.glob(".epoch-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
