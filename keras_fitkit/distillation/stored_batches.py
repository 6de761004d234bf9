"""Batches that carry the teacher's outputs with them: part of the inputs.

Keras knows (x, y, sample_weight) and nothing else; so what the teacher said travels
inside `x`, beside what the student is given.
"""

from __future__ import annotations

from typing import Any

INPUTS, STORED = "inputs", "keras_fitkit_teacher_outputs"


def join(inputs: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a batch with the teacher's outputs."""
    return {INPUTS: inputs, STORED: stored}


def split(x: Any) -> tuple[Any, Any]:
    """The student's inputs, and the teacher's outputs or None."""
    if isinstance(x, dict) and set(x) == {INPUTS, STORED}:
        return x[INPUTS], x[STORED]
    return x, None
