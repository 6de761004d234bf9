"""Whole models: what comes back, on the same backend and on others."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.packing import models


def values(model):
    """Seeds that were not given are not among them: `.keras` does not keep those."""
    return [np.asarray(keras.ops.convert_to_numpy(v.value)) for v in model.weights]


def assert_same(model, again):
    assert [v.name for v in model.weights] == [v.name for v in again.weights]
    for one, other in zip(values(model), values(again), strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    x = models.data(model)
    for one, other in zip(
        keras.tree.flatten(model(x)), keras.tree.flatten(again(x)), strict=True
    ):
        one, other = map(keras.ops.convert_to_numpy, (one, other))
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_same_model_comes_back(kind, tmp_path):
    model = models.KINDS[kind]()
    size = kf.save_packed(model, tmp_path / "m.kfz")
    assert_same(model, kf.load_packed(tmp_path / "m.kfz"))
    file = (tmp_path / "m.kfz").read_bytes()
    assert size.file_bytes == len(file)
    assert size == kf.packed_size(model)
    kf.save_packed(model, tmp_path / "again.kfz")
    assert (tmp_path / "again.kfz").read_bytes() == file


def test_seeds_and_statistics_are_those_that_keras_keeps(tmp_path):
    model = models.sequential()
    x = np.random.default_rng(0).normal(size=(8, 12)).astype("f4")
    for _ in range(3):
        model(x, training=True)  # moves statistics and the seed
    model.save(tmp_path / "m.keras")
    kf.save_packed(model, tmp_path / "m.kfz")
    again = kf.load_packed(tmp_path / "m.kfz")
    plain = keras.saving.load_model(tmp_path / "m.keras")
    assert_same(plain, again)
    outputs = [one(x, training=True) for one in (plain, again)]
    assert np.array_equal(*map(keras.ops.convert_to_numpy, outputs))


def test_it_is_compiled_as_it_was_and_the_optimizer_begins_anew(tmp_path):
    model = models.sequential()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    x, y = np.ones((4, 12)), np.ones((4, 3))
    model.fit(x, y, verbose=0)
    size = kf.save_packed(model, tmp_path / "m.kfz")
    assert not [one for one in size.tensors if "optimizer" in one.name]
    again = kf.load_packed(tmp_path / "m.kfz")
    assert float(again.optimizer.learning_rate) == pytest.approx(0.01)
    assert int(again.optimizer.iterations) == 0
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    again.fit(x, y, verbose=0)
    assert not kf.load_packed(tmp_path / "m.kfz", compile=False).compiled


def test_a_layer_stores_itself_in_its_own_way(tmp_path):
    model = keras.Sequential([keras.Input((4,)), models.Unregistered()])
    kf.save_packed(model, tmp_path / "m.kfz")
    known = {"Unregistered": models.Unregistered}
    assert_same(model, kf.load_packed(tmp_path / "m.kfz", custom_objects=known))


def test_a_class_that_nobody_knows_is_named(tmp_path):
    class Gone(models.Unregistered):
        pass

    kf.save_packed(keras.Sequential([keras.Input((4,)), Gone()]), tmp_path / "m.kfz")
    with pytest.raises(kf.PackedFileError, match=r"cannot be built: .*'Gone'"):
        kf.load_packed(tmp_path / "m.kfz")


def test_code_in_a_file_is_refused_unless_asked_for(tmp_path):
    double = keras.layers.Lambda(lambda x: 2 * x, output_shape=(3,))
    kf.save_packed(keras.Sequential([keras.Input((3,)), double]), tmp_path / "m.kfz")
    with pytest.raises(kf.PackedFileError, match=r"cannot be built: .*safe_mode"):
        kf.load_packed(tmp_path / "m.kfz")
    again = kf.load_packed(tmp_path / "m.kfz", safe_mode=False)
    doubled = keras.ops.convert_to_numpy(again(np.ones((1, 3))))
    assert doubled.tolist() == [[2, 2, 2]]


@pytest.mark.tensorflow_only
def test_vocabularies_come_along(tmp_path):
    lookup = keras.layers.StringLookup()
    lookup.adapt(["a", "b", "b", "c"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), lookup])
    kf.save_packed(model, tmp_path / "m.kfz")
    again = kf.load_packed(tmp_path / "m.kfz")
    assert again.layers[0].get_vocabulary() == lookup.get_vocabulary()


def test_state_that_is_no_array_of_numbers_is_refused(tmp_path):
    class Waves(models.Unregistered):
        def save_own_variables(self, store):
            store["waves"] = np.array([1j, 2], "complex64")

    model = keras.Sequential([keras.Input((4,)), Waves()])
    with pytest.raises(ValueError, match=r"arrays of numbers. Received: .*waves"):
        kf.save_packed(model, tmp_path / "m.kfz")
    assert not list(tmp_path.iterdir())


def test_what_training_prunes_has_one_kind_of_zero_and_clusters(tmp_path):
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(50)])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    callbacks = [kf.PruneSchedule(0.8), kf.ClusterWeights(8, verbose=0)]
    x, y = rng.normal(size=(64, 40)), rng.normal(size=(64, 50))
    model.fit(x, y, epochs=3, batch_size=16, verbose=0, callbacks=callbacks)
    kernel = model.get_weights()[0]
    assert not np.signbit(kernel[kernel == 0]).any()
    size = kf.save_packed(model, tmp_path / "m.kfz")
    assert "codebook" in size.tensors[0].way
    assert size.ratio > 5
    assert_same(model, kf.load_packed(tmp_path / "m.kfz"))


def test_pruned_and_clustered_models_are_small(tmp_path):
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(100)])
    kernel = rng.normal(size=(300, 100))
    book = np.linspace(-2.6, 2.6, 16)
    kernel = book[np.abs(kernel[..., None] - book).argmin(-1)]
    kernel[rng.random(kernel.shape) < 0.9] = 0
    model.set_weights([kernel, np.zeros(100)])
    size = kf.save_packed(model, tmp_path / "m.kfz")
    n, kept = kernel.size, np.count_nonzero(kernel)
    positions = n * np.log2(n / (n - kept)) + kept * np.log2((n - kept) / kept)
    _, counts = np.unique(kernel[kernel != 0], return_counts=True)
    indices = np.sum(counts * np.log2(kept / counts))
    bound = (positions + indices) / 8
    assert size.entropy_bytes == pytest.approx(bound)
    # 16 values of 4 bytes, a byte for the probability of each, 60 for the rest
    assert bound < size.weights_bytes < 1.03 * bound + 16 * (4 + 1) + 60
    assert size.metadata_bytes < 300
    assert size.ratio > 20  # a tenth is left, at under 4 bits instead of 32


def test_clusters_of_each_channel_are_small(tmp_path):
    """ClusterWeights(per_channel=True) and what it leaves, zeros included."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(40, name="d")])
    kernel = rng.normal(size=(200, 40))
    kernel[rng.random(kernel.shape) < 0.5] = 0
    model.set_weights([kernel, np.zeros(40)])
    model.compile("sgd", "mse", run_eagerly=True)
    x = rng.normal(size=(8, 200)).astype("float32")
    clusters = kf.ClusterWeights(8, per_channel=True)
    model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[clusters])
    kernel = model.get_weights()[0]
    per_channel = [np.unique(column[column != 0]).size for column in kernel.T]
    assert max(per_channel) <= 8 < np.unique(kernel).size / 20
    size = kf.save_packed(model, tmp_path / "m.kfz")
    assert size.tensors[0].way == "zeros, codebooks"
    kept, n = np.count_nonzero(kernel), kernel.size
    # a bit for each position, 3 for each index, 4 bytes for each value
    assert size.tensors[0].packed_bytes < 1.02 * (n + 3 * kept) / 8 + 4 * 8 * 40 + 40
    assert_same(model, kf.load_packed(tmp_path / "m.kfz"))


def test_a_model_in_training_for_a_grid_is_told_of():
    qat, stripped = (
        kf.packed_size(models.quantized()),
        kf.packed_size(models.stripped()),
    )
    assert stripped.notes == ()
    assert qat.weights_bytes > 1.5 * stripped.weights_bytes
    assert "kf.strip_quantization(model)" in qat.notes[0]
    for text in (str(qat), qat._repr_html_(), json.dumps(qat.to_dict())):
        assert "in training for a grid" in text


def test_files_do_not_depend_on_the_backend(tmp_path):
    """What one backend packs, another unpacks: bits and predictions."""
    path = Path(__file__).with_name("net.kfz")
    told = json.loads(path.with_suffix(".json").read_text())
    model = kf.load_packed(path)
    found = [np.asarray(one).astype("f8").sum() for one in model.get_weights()]
    assert found == told["sums"]
    x = np.linspace(-1, 1, 2 * 24).reshape(2, 24).astype("f4")
    y = keras.ops.convert_to_numpy(model(x))
    assert np.allclose(y, told["outputs"], rtol=1e-4, atol=1e-5)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    for call in (kf.load_packed, lambda path: kf.save_packed(models.block(), path)):
        with pytest.raises(ImportError, match=r"pip install 'keras-fitkit\[pack\]'"):
            call("m.kfz")


def test_a_file_that_is_there_stays_when_asked(tmp_path):
    (tmp_path / "m.kfz").write_text("mine")
    with pytest.raises(FileExistsError, match=r"`path` must be a new file"):
        kf.save_packed(models.sequential(), tmp_path / "m.kfz", overwrite=False)
    assert (tmp_path / "m.kfz").read_text() == "mine"


def test_the_report_says_where_the_bytes_are():
    size = kf.packed_size(models.stripped())
    told = json.loads(json.dumps(size.to_dict()))
    assert told["file_bytes"] == told["weights_bytes"] + told["metadata_bytes"]
    assert {one["way"] for one in told["tensors"]} >= {"grid", "one value"}
    kernel = 4 * 3 * 3 * 3 * 6  # bytes * (h * w * c * filters)
    assert size.tensors[0].bytes == kernel or kernel in [t.bytes for t in size.tensors]
    for text in (str(size), size._repr_html_()):
        assert "3x3x3x6" in text
        assert f"{size.file_bytes:,}" in text
