from pathlib import Path

import numpy as np
import pytest

from keras_fitkit._core import arguments


def test_message_form():
    text = arguments.message("rate", "in [0, 1)", 80, "Pass 0.8.")
    assert text == "`rate` must be in [0, 1). Received: rate=80. Pass 0.8."
    assert arguments.message("rate", "in [0, 1)", 80).endswith("Received: rate=80.")


def test_message_shortens_long_values():
    assert len(arguments.message("x", "short", "a" * 10_000)) < 150
    assert len(arguments.message("x", "short", list(range(10_000)))) < 150
    assert len(arguments.message("x", "short", np.zeros((500, 500)))) < 300


def test_near_names():
    assert (
        arguments.near("patiance", ["patience", "mode"]) == "Did you mean 'patience'?"
    )
    assert arguments.near("zzz", ["patience"]) == ""


def test_choice():
    assert arguments.choice("mode", "min", ("min", "max")) == "min"
    with pytest.raises(
        ValueError,
        match=r"^`mode` must be one of 'min', 'max'\. Received: mode='mim'\. "
        r"Did you mean 'min'\?$",
    ):
        arguments.choice("mode", "mim", ("min", "max"))
    with pytest.raises(TypeError, match=r"`mode` must be one of 'min'.*mode=3"):
        arguments.choice("mode", 3, ("min",))


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.25), np.int64(1)])
def test_number_comes_back_as_a_float(value):
    clean = arguments.number("rate", value, low=0, high=1)
    assert type(clean) is float
    assert clean == float(value)


@pytest.mark.parametrize(
    ("value", "span", "match"),
    [
        (2, {"low": 0, "high": 1}, r"a number in \[0, 1\]\. Received: rate=2\."),
        (1, {"low": 0, "high": 1, "include_high": False}, r"in \[0, 1\)"),
        (0, {"low": 0, "high": 1, "include_low": False}, r"in \(0, 1\]"),
        (-1, {"low": 0}, "a number >= 0"),
        (0, {"low": 0, "include_low": False}, "a number > 0"),
        (9, {"high": 8}, "a number <= 8"),
        (8, {"high": 8, "include_high": False}, "a number < 8"),
        (float("nan"), {}, "a number. Received: rate=nan"),
        (float("inf"), {"low": 0}, "a number >= 0. Received: rate=inf"),
        (np.float64("-inf"), {"high": 0}, "a number <= 0"),
    ],
)
def test_number_outside(value, span, match):
    with pytest.raises(ValueError, match=match):
        arguments.number("rate", value, **span)


@pytest.mark.parametrize("value", ["1", None, True, np.bool_(True), [1], 1j])
def test_number_of_another_type(value):
    with pytest.raises(TypeError, match=r"`rate` must be a number. Received: rate="):
        arguments.number("rate", value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integer_comes_back_as_an_int(value):
    clean = arguments.integer("patience", value, low=3, high=3)
    assert type(clean) is int
    assert clean == 3


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (-1, ValueError, r"an integer in \[0, 9\]\. Received: patience=-1"),
        (10, ValueError, r"an integer in \[0, 9\]\. Received: patience=10"),
        (1.0, TypeError, "an integer.*patience=1.0"),
        (True, TypeError, "an integer.*patience=True"),
        ("1", TypeError, "an integer.*patience='1'"),
        (None, TypeError, "an integer.*patience=None"),
    ],
)
def test_integer_outside(value, error, match):
    with pytest.raises(error, match=match):
        arguments.integer("patience", value, low=0, high=9)


def test_integer_with_one_end():
    with pytest.raises(ValueError, match=r"an integer >= 1. Received: every=0"):
        arguments.integer("every", 0, low=1)
    with pytest.raises(ValueError, match=r"an integer <= 8. Received: bits=9"):
        arguments.integer("bits", 9, high=8)


def test_flag():
    assert arguments.flag("restore", True) is True
    for value in (1, None, "yes", np.bool_(True)):
        with pytest.raises(TypeError, match=r"`restore` must be True or False"):
            arguments.flag("restore", value)


def test_function():
    assert arguments.function("rule", len, "(logs) -> bool") is len
    with pytest.raises(TypeError, match=r"a callable \(logs\) -> bool.*rule=3"):
        arguments.function("rule", 3, "(logs) -> bool")


def test_path(tmp_path):
    assert arguments.path("path", str(tmp_path / "a.png")) == tmp_path / "a.png"
    assert arguments.path("path", tmp_path / "a.png", suffix=".png")
    assert arguments.path("path", "~/x.png") == Path.home() / "x.png"


def test_bad_paths(tmp_path):
    with pytest.raises(TypeError, match=r"a path.*path=3"):
        arguments.path("path", 3)
    with pytest.raises(ValueError, match=r"ends in '\.png'"):
        arguments.path("path", tmp_path / "a.jpg", suffix=".png")
    with pytest.raises(ValueError, match=r"a file, not a folder"):
        arguments.path("path", tmp_path)
    with pytest.raises(ValueError, match=r"Make the folder first: .*none' does not"):
        arguments.path("path", tmp_path / "none" / "a.png")
