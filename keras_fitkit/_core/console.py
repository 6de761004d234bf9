"""Where the callbacks print."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Writes one line to the standard output, at once: Keras's bars print there."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
