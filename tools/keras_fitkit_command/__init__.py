"""The command `keras-fitkit`: reads its arguments before anything heavy is imported.

It is no part of the package `keras_fitkit`, which imports Keras and its backend: help
and mistakes in the arguments must not wait for those. What commands do is in
`keras_fitkit.cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from keras_fitkit_command.parsing import parser as parser

FAILED, INTERRUPTED = 1, 130
_LONGEST = 600  # characters of an error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the arguments. Defaults to those of the process.

    Returns:
        0 where all went well, 1 for an error, which stands in one line on the standard
        error, 130 where it was interrupted.

    Raises:
        SystemExit: 2 for arguments that cannot be read, 0 after help.

    Example:
        >>> from keras_fitkit_command import main
        >>> main(["report", "no.keras"])
        1
    """
    options = parser().parse_args(argv)
    # TensorFlow writes pages about the processor otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from keras_fitkit.cli import run

        run(options)
    except KeyboardInterrupt:
        sys.stderr.write("keras-fitkit: interrupted\n")
        return INTERRUPTED
    except Exception as error:
        if options.traceback:
            raise
        sys.stderr.write(f"keras-fitkit: error: {one_line(error)}\n")
        return FAILED
    return 0


def one_line(error: Exception) -> str:
    """What an error says, without line breaks and not endless."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
