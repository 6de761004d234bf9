"""The command line, in this process: results, files, exit codes, one-line errors."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.cli import demo, main
from keras_fitkit.report import measuring
from tests.report import nets

TRUTH = np.repeat(np.arange(4), 15)
X = nets.rows_of(TRUTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, data and the log of a run."""
    found = tmp_path_factory.mktemp("files")
    nets.given(np.eye(4)).save(found / "big.keras")
    nets.given(np.diag([1, 1, 1, -1.0])).save(found / "small.keras")
    np.savez(found / "val.npz", x=X, y=TRUTH)
    np.savez(found / "other.npz", images=X)
    np.savez(found / "pickled.npz", x=np.array([{}], object), y=TRUTH)
    (found / "broken.npz").write_bytes(b"no archive")
    (found / "broken.keras").write_bytes(b"no archive")
    falling = [1 / (epoch + 1) for epoch in range(12)]
    rising = [
        1 / (epoch + 1) if epoch < 4 else 0.25 + 0.1 * epoch for epoch in range(12)
    ]
    rows = [
        f"{i},{a},{b}" for i, (a, b) in enumerate(zip(falling, rising, strict=True))
    ]
    (found / "history.csv").write_text("\n".join(["epoch,loss,val_loss", *rows, ""]))
    return found


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs a command in the folder: its exit code, output and messages."""
    monkeypatch.chdir(folder)

    def command(*arguments):
        code = main([str(one) for one in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return command


@pytest.fixture
def no_litert(monkeypatch):
    monkeypatch.setattr(measuring, "_litert", lambda model, folder: ("left out", ""))


@pytest.mark.usefixtures("no_litert")
def test_report(run, tmp_path):
    plot, lost = tmp_path / "report.png", tmp_path / "lost.png"
    given = ["--baseline", "big.keras", "--data", "val.npz", "--no-latency"]
    pictures = ["--plot", plot, "--forgotten", lost]
    code, out, err = run("report", "small.keras", *given, *pictures)
    assert code == 0
    assert "15 rows lost, 0 gained" in out
    assert "loading small.keras" in err
    assert plot.is_file()
    assert lost.is_file()
    code, out, err = run("report", "small.keras", *given, "--json", "--quiet")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["forgotten"]["lost"] == list(range(45, 60))
    code, out, _ = run("report", "small.keras", *given, "--markdown")
    assert out.startswith("|  | baseline | model |")


def test_diagnose(run, tmp_path):
    plot = tmp_path / "gap.png"
    code, out, _ = run("diagnose", "history.csv", "--plot", plot)
    assert code == 0
    assert "overfitting" in out
    assert plot.is_file()
    code, out, _ = run("diagnose", "history.csv", "--json")
    assert json.loads(out)["state"] == "overfitting"


def test_pack_and_unpack(run, folder, tmp_path):
    packed, again = tmp_path / "m.kfz", tmp_path / "again.keras"
    code, out, _ = run("pack", "small.keras", packed, "--json")
    assert code == 0
    assert json.loads(out)["file_bytes"] == packed.stat().st_size
    code, out, _ = run("unpack", packed, again)
    assert code == 0
    assert f"{again.stat().st_size:,} bytes, 16 parameters" in out
    model = keras.saving.load_model(again)
    np.testing.assert_array_equal(
        model.get_weights()[0], np.diag([1, 1, 1, -1.0]).astype("float32")
    )


@pytest.mark.tensorflow_only
def test_export(run, tmp_path):
    path = tmp_path / "m.tflite"
    options = ["--mode", "int8", "--calibrate", "val.npz", "--check", "val.npz"]
    code, out, _ = run("export", "small.keras", path, *options, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["mode"], found["size_bytes"]) == ("int8", path.stat().st_size)
    assert found["rows"] == 60
    code, out, _ = run("report", path, "--no-latency")
    assert code == 0
    assert "MACs" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["report", "no.keras"], "`model` must be a file that exists"),
        (["report", "val.npz"], "ends in .keras or .kfz or .tflite"),
        (["report", "broken.keras"], "that `model.save` of Keras 3 wrote"),
        (["report", "big.keras", "--data", "other.npz"], "It has: images."),
        (
            ["report", "big.keras", "--data", "broken.npz"],
            "a .npz file with the arrays",
        ),
        (["report", "big.keras", "--data", "pickled.npz"], "`--data` must be a .npz"),
        (
            ["report", "big.keras", "--forgotten", "a.png"],
            "needs --baseline and --data",
        ),
        (["report", "big.keras", "--plot", "no/such/a.png"], "a folder that exists"),
        (["export", "big.keras", "m.onnx"], "a path that ends in '.tflite'"),
        (
            ["export", "big.keras", "m.tflite", "--calibrate", "val.npz", "--rows=-3"],
            "`--rows` must be an integer >= 1",
        ),
        (["pack", "big.keras", "m.zip"], "a path that ends in '.kfz'"),
        (["unpack", "big.keras", "m.keras"], "a file that ends in .kfz"),
        (["diagnose", "val.npz"], "it is not a text file"),
        (["diagnose", "history.csv", "--monitor", "acc"], "one of the metrics"),
    ],
)
def test_errors_are_one_line(run, arguments, text):
    code, out, err = run(*arguments, *(["--quiet"]))
    assert code == 1
    assert out == ""
    assert err.startswith("keras-fitkit: error: ")
    assert text in err
    assert err.count("\n") == 1


def test_a_traceback_is_shown_on_demand(run):
    with pytest.raises(FileNotFoundError, match="a file that exists"):
        run("report", "no.keras", "--traceback")


def test_a_file_cannot_bring_code_of_its_own(run, tmp_path):
    path = tmp_path / "code.keras"
    inputs = keras.Input((2,))
    keras.Model(inputs, layers.Lambda(lambda x: x + 1)(inputs)).save(path)
    code, _, err = run("report", path, "--quiet")
    assert code == 1
    assert "load it in Python with safe_mode=False" in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["reprot"], ["report"], ["export", "a.keras", "b", "--mode", "int9"]],
)
def test_arguments_that_cannot_be_read(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: keras-fitkit" in capsys.readouterr().err


def test_interrupted(run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(kf, "diagnose", interrupted)
    code, _, err = run("diagnose", "history.csv")
    assert (code, err) == (130, "keras-fitkit: interrupted\n")


@pytest.mark.parametrize("command", "report diagnose export pack unpack demo".split())
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  keras-fitkit {command}" in text


@pytest.mark.usefixtures("no_litert")
def test_demo(run, monkeypatch, tmp_path):
    for name in ("EPOCHS", "PRUNING_EPOCHS", "INTEGER_EPOCHS"):
        monkeypatch.setattr(demo, name, 1)
    code, out, err = run("demo", "--out", tmp_path / "out", "--json")
    assert code == 0, err
    found = json.loads(out)
    tensorflow = keras.backend.backend() == "tensorflow"
    names = ["dense", "pruned", *(["int8"] if tensorflow else [])]
    assert [one["name"] for one in found["models"]] == names
    assert found["rows"] == 1797 - 700 - 400
    assert "state" in found["diagnosis"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"gap.png", "pareto.png", "forgotten-pruned.png", "pruned.keras"} <= written
    assert "4. compare" in err


def test_demo_without_its_extra(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    code, _, err = run("demo")
    assert code == 1
    assert "pip install 'keras-fitkit[demo]'" in err
