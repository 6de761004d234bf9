"""The one error of packed files."""

from __future__ import annotations


class PackedFileError(ValueError):
    """A file that is no packed model, is damaged, or holds a model that cannot be made.

    Raises:
        PackedFileError: not by itself; `load_packed` raises it.

    Example:
        >>> from pathlib import Path
        >>> import keras_fitkit as kf
        >>> _ = Path("notes.kfz").write_text("these are notes")
        >>> try:
        ...     kf.load_packed("notes.kfz")
        ... except kf.PackedFileError as error:
        ...     print(error)
        notes.kfz is no packed model: it does not begin as one.
    """
