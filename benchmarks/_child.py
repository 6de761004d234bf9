"""Helper processes that live on and take commands, one JSON line each.

Keras 3 and tfmot cannot share a process (tfmot sets TF_USE_LEGACY_KERAS), and two arms
that take turns must both be warm. So each stack gets a process that stays up: it is
asked with `Child.ask`, and answers from `serve`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


class Child:
    """A script of this folder that runs `serve` in a process of its own.

    Args:
        script: its file name.
        arguments: its command line.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script)), *arguments],
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def ask(self, do: str, **values: Any) -> Any:
        """Sends a command and waits for its answer.

        Raises:
            RuntimeError: with the child's traceback, or the end of what it has said.
        """
        try:
            self._orders.write(json.dumps({"do": do, **values}) + "\n")
            self._orders.flush()
        except BrokenPipeError:
            raise RuntimeError(self._last_words()) from None
        line = self._answers.readline()
        if not line:
            raise RuntimeError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Lets the process end."""
        self._orders.close()
        self._process.wait()
        self._answers.close()
        self._said.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        return f"The helper process has ended:\n{self._said.read()[-3000:]}"


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answers commands from stdin until it is closed; to be called by the script.

    What anything else prints goes to stderr, so that it does not mix with the answers.

    Args:
        handlers: by the name of the command; each returns what JSON can hold.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        values = json.loads(line)
        try:
            answer = {"result": handlers[values.pop("do")](**values)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    answers.flush()
    os._exit(0)  # a thread that waits for its next order would keep the process up
