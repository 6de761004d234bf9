"""`compat="tfmot"` against tfmot itself: the same weights and masks, bit for bit.

tfmot runs once for all cases, in a process of its own (tfmot_child.py); this one never
imports it. What is compared was trained from the same weights on the same batches.
"""

import contextlib
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.pruning import tfmot_masks
from tests.pruning import tfmot_child
from tests.tools import warns_once

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.slow]

SAMPLES = 100  # 7 steps an epoch, the last of 4 samples
STEPS = np.arange(1, 50)


def polynomial(initial, final, begin, end, frequency, power=3):
    arguments = {
        "initial_sparsity": initial,
        "final_sparsity": final,
        "begin_step": begin,
        "end_step": end,
        "power": power,
        "frequency": frequency,
    }
    return {"kind": "PolynomialDecay", "arguments": arguments}


def constant(target, begin, end, frequency):
    arguments = {
        "target_sparsity": target,
        "begin_step": begin,
        "end_step": end,
        "frequency": frequency,
    }
    return {"kind": "ConstantSparsity", "arguments": arguments}


def dense(units, **kwargs):
    return "Dense", {"units": units, **kwargs}


def conv(filters, **kwargs):
    return "Conv2D", {"filters": filters, "kernel_size": 3, **kwargs}


MLP = [dense(33, activation="relu"), dense(5)]
NETS = {
    "mlp": {"input": [20], "layers": MLP},
    "ties": {"input": [20], "layers": MLP},  # see `weights_of`
    # Input channels of 3 and 8 in the convolutions, 54 in the last layer.
    "conv": {
        "input": [8, 8, 3],
        "layers": [
            conv(8, activation="tanh"),
            conv(6, activation="tanh", strides=2, padding="same"),
            ("Flatten", {}),
            dense(5),
        ],
    },
}

USUAL = polynomial(0.2, 0.8, 2, 30, 4)
UNEVEN = polynomial(0.1, 0.75, 3, 30, 4)  # 3, 7 ... 27: tfmot never comes to 30
# Half weights to keep at steps 14, 18, 22 ...: float32 decides, and how it is compiled.
HALVES = polynomial(0.0, 0.75, 1, 31, 1, power=1)


def case(net, optimizer, schedule, **changes):
    usual = {"epochs": 6, "validates": False, "m_by_n": None, "below": False}
    return {"net": net, "optimizer": optimizer, "schedule": schedule} | usual | changes


# Only a high learning rate ("fast") brings back weights that were masked.
CASES = {
    "momentum": case("mlp", "momentum", USUAL),
    "adam": case("mlp", "adam", USUAL),
    "fast": case("mlp", "fast", USUAL),
    "conv": case("conv", "fast", polynomial(0.0, 0.7, 0, 20, 5), epochs=4),
    "halves": case("mlp", "fast", HALVES),
    "constant": case("mlp", "fast", constant(0.6, 3, -1, 5)),
    "constant-ends": case("conv", "fast", constant(0.6, 3, 18, 5), epochs=4),
    "uneven": case("mlp", "fast", UNEVEN, below=True),
    "uneven-short": case("mlp", "fast", UNEVEN, epochs=4, below=True),
    # Updates at 8 and 29, the first steps of epochs: the weights were closed before.
    "validated": case("mlp", "fast", polynomial(0.2, 0.8, 2, 32, 3), validates=True),
    "ties": case("ties", "momentum", constant(0.6, 1, -1, 100)),
    "2:4": case("mlp", "fast", constant(0.5, 1, -1, 1), m_by_n=[2, 4]),
    "2:4-conv": case("conv", "fast", constant(0.5, 1, -1, 1), m_by_n=[2, 4]),
    "2:4-ties": case("ties", "momentum", constant(0.5, 1, -1, 1), m_by_n=[2, 4]),
    "1:4-ties": case("ties", "momentum", constant(0.75, 1, -1, 1), m_by_n=[3, 4]),
}
DENSE = {
    f"dense-{one['net']}-{one['optimizer']}": case(one["net"], one["optimizer"], None)
    for one in CASES.values()
}
# Where kf's own schedule would update once more than tfmot's, at its end.
ONLY_TFMOT = ("uneven",)
FORMS = [
    (name, form)
    for name in CASES
    for form in ("kf", "tfmot")
    if form == "tfmot" or name not in ONLY_TFMOT
]
COUNTS = {
    f"counts-{index}": {
        "schedule": polynomial(initial, final, begin, end, 1, power),
        "size": size,
        "steps": list(range(max(begin, 1), end + 2)),
    }
    for index, (initial, final, begin, end, power, size) in enumerate(
        [
            (0.0, 0.75, 14, 44, 3, 6000),
            (0.25, 0.8, 6, 46, 3, 10000),
            (0.1, 0.5, 4, 404, 3, 10000),
            (0.0, 0.75, 1, 31, 1, 660),
            (0.1, 0.9, 0, 50, 1, 165),
            (0.2, 0.6, 13, 33, 2, 2000),
            (0.0, 0.9, 3, 43, 0.5, 2000),
            # No halves here: the last bit of these powers depends on the machine.
            (0.5, 0.8, 0, 97, 2.5, 4001),
            (0.0, 0.75, 0, 59, 4, 1001),
            (0.3, 0.999, 7, 8, 3, 100),
        ]
    )
}


def weights_of(net):
    """The weights to start from."""
    rng = np.random.default_rng(3)
    built = tfmot_child.build(keras, NETS[net]).get_weights()
    scales = [0.3 if one.ndim > 1 else 0.05 for one in built]
    found = [
        rng.normal(0.0, scale, one.shape).astype("float32")
        for scale, one in zip(scales, built, strict=True)
    ]
    if net == "ties":
        found[0] = np.round(found[0] * 8.0) / 8.0  # few magnitudes, both signs
        found[2] = np.zeros_like(found[2])
    return found


def data_of(net):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(SAMPLES, *NETS[net]["input"])).astype("float32")
    y = rng.normal(size=(SAMPLES, 5)).astype("float32")
    return {"x": x, "y": y, **tfmot_child.numbered("weights", weights_of(net))}


@pytest.fixture(scope="module")
def given():
    return {net: data_of(net) for net in NETS}


@pytest.fixture(scope="module")
def theirs(given, tmp_path_factory):
    """All that tfmot has found, by case."""
    folder = tmp_path_factory.mktemp("tfmot")
    settings = {
        "cases": CASES | DENSE,
        "nets": NETS,
        "schedules": {name: one["schedule"] for name, one in CASES.items()},
        "counts": COUNTS,
    }
    arrays = {
        f"{net}/{name}": array
        for net, data in given.items()
        for name, array in data.items()
    }
    arrays["settings"] = np.array(json.dumps(settings))
    np.savez(folder / "given.npz", steps=STEPS, **arrays)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    paths = [tfmot_child.__file__, folder / "given.npz", folder / "found.npz"]
    done = subprocess.run(
        [sys.executable, *map(str, paths)], env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


def of(theirs, name):
    start = f"{name}/"
    return {
        key.removeprefix(start): array
        for key, array in theirs.items()
        if key.startswith(start)
    }


class PruningSchedule:
    """Stands in for tfmot's class of this name."""

    def __init__(self, **arguments):
        vars(self).update(arguments)

    def due(self, step):
        within = self.begin_step <= step and (
            self.end_step < 0 or step <= self.end_step
        )
        return within and (step - self.begin_step) % self.frequency == 0


class PolynomialDecay(PruningSchedule):
    def __call__(self, step):
        one, zero = np.float32(1.0), np.float32(0.0)
        length = np.float32(self.end_step - self.begin_step)
        gone = min(one, max(zero, np.float32(step - self.begin_step) / length))
        span = np.float32(self.initial_sparsity - self.final_sparsity)
        # NumPy's own power of float32 is not rounded alike on all CPUs.
        rest = np.float32(float(one - gone) ** self.power)
        return self.due(step), span * rest + np.float32(self.final_sparsity)


class ConstantSparsity(PruningSchedule):
    def __call__(self, step):
        return self.due(step), np.float32(self.target_sparsity)


def stand_in(schedule):
    kinds = {kind.__name__: kind for kind in (PolynomialDecay, ConstantSparsity)}
    return kinds[schedule["kind"]](**schedule["arguments"])


def our_own(schedule):
    arguments = dict(schedule["arguments"])
    if schedule["kind"] == "PolynomialDecay":
        return kf.PolynomialSparsity(**arguments)
    end = arguments.pop("end_step")
    final = arguments.pop("target_sparsity")
    return kf.ConstantSparsity(final, end_step=None if end < 0 else end, **arguments)


def sparsity_argument(one, form):
    if form == "tfmot":
        return stand_in(one["schedule"])
    if one["m_by_n"]:
        return one["schedule"]["arguments"]["target_sparsity"]
    return our_own(one["schedule"])


class MaskRecorder(tfmot_child.Recorder, keras.callbacks.Callback):
    pass


def fit(one, data, callbacks=()):
    """The fit of a case on this side: final weights and history."""
    model = tfmot_child.build(keras, NETS[one["net"]])
    model.set_weights(tfmot_child.gathered(data, "weights"))
    kind, kwargs = tfmot_child.OPTIMIZERS[one["optimizer"]]
    optimizer = getattr(keras.optimizers, kind)(**kwargs)
    history = tfmot_child.train(model, optimizer, data, one, callbacks)
    return model.get_weights(), history


def prune(one, data, form, compat="tfmot"):
    """Final weights, masks after every step, history."""
    pattern = "unstructured"
    if one["m_by_n"]:
        zeros, group = one["m_by_n"]
        pattern = f"{group - zeros}:{group}"
    callback = kf.PruneSchedule(
        sparsity_argument(one, form), pattern=pattern, compat=compat
    )
    recorder = MaskRecorder(lambda: list(callback.masks_.values()))
    expected = (
        warns_once(UserWarning, "below its target")
        if one["below"] and compat
        else contextlib.nullcontext()
    )
    with expected:
        weights, history = fit(one, data, [callback, recorder])
    assert all(map(np.array_equal, recorder.seen[-1], callback.masks_.values()))
    masks = [np.stack(each) for each in zip(*recorder.seen, strict=True)]
    return weights, masks, history


def equal(ours, theirs):
    return len(ours) == len(theirs) > 0 and all(map(np.array_equal, ours, theirs))


@pytest.mark.parametrize("name", DENSE)
def test_without_pruning_both_kerases_train_alike(name, given, theirs):
    """Otherwise the comparison below would mean nothing."""
    one = DENSE[name]
    start = tfmot_child.gathered(given[one["net"]], "weights")
    found, _ = fit(one, given[one["net"]])
    expected = tfmot_child.gathered(of(theirs, name), "dense")
    assert equal(found, expected)
    assert not any(map(np.array_equal, found, start))


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_weights_and_masks_are_those_of_tfmot(name, form, given, theirs):
    one = CASES[name]
    weights, masks, history = prune(one, given[one["net"]], form)
    expected = of(theirs, name)
    expected_masks = tfmot_child.gathered(expected, "masks")
    assert equal(masks, expected_masks)  # after every step
    assert equal(weights, tfmot_child.gathered(expected, "weights"))
    assert not all(mask[-1].all() for mask in masks)
    kernels = [weight for weight in weights if weight.ndim > 1]
    for kernel, mask in zip(kernels, masks, strict=True):
        assert not np.any(kernel[~mask[-1]])
    if one["validates"]:
        np.testing.assert_allclose(
            history["val_loss"], expected["val_loss"], rtol=1e-5, atol=0.0
        )
    if one["below"]:
        target = one["schedule"]["arguments"]["final_sparsity"]
        assert np.mean(masks[0][-1]) > 1.0 - target


@pytest.mark.parametrize("name", ["fast", "conv", "validated"])
def test_the_cases_tell_our_usual_masks_from_tfmot(name, given, theirs):
    """A high learning rate brings masked weights back; without `compat` none comes."""
    one = CASES[name]
    _, masks, _ = prune(one, given[one["net"]], "kf", compat=None)
    expected = tfmot_child.gathered(of(theirs, name), "masks")
    different = sum(
        np.count_nonzero(ours[-1] != other[-1])
        for ours, other in zip(masks, expected, strict=True)
    )
    assert different > 5


def test_all_ties_are_kept(given, theirs):
    kernel = np.abs(tfmot_child.gathered(given["ties"], "weights")[0])
    first, second = (
        masks[-1] for masks in tfmot_child.gathered(of(theirs, "ties"), "masks")
    )
    keep = round(kernel.size * 0.4)
    threshold = np.sort(kernel.reshape(-1))[-keep]
    assert np.count_nonzero(kernel == threshold) > 10
    assert np.count_nonzero(first) > keep
    assert first.tolist() == (kernel >= threshold).tolist()
    assert second.all()  # all of its weights are zero: all tie


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_weights_stay(name, theirs):
    """Also where half a weight is to stay and the order of float32 operations tells."""
    one = COUNTS[name]
    weight = np.arange(1, one["size"] + 1, dtype="float32")
    schedule = our_own(one["schedule"])
    found = [
        int(np.count_nonzero(tfmot_masks.mask(weight, sparsity)))
        for sparsity in (tfmot_masks.sparsity(schedule, step) for step in one["steps"])
    ]
    assert found == theirs[name].tolist()


@pytest.mark.parametrize("name", CASES)
def test_the_stand_ins_answer_as_tfmot(name, theirs):
    schedule = stand_in(CASES[name]["schedule"])
    expected = of(theirs, name)
    assert [schedule(step)[0] for step in STEPS] == expected["due"].tolist()
    found = [schedule(step)[1] for step in STEPS]
    assert np.array_equal(np.array(found, "float32"), expected["sparsity"])
