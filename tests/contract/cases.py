"""The tables of the contract tests. A later room adds rows, nothing else.

`BAD_ARGUMENTS`: for each public callable and each of its arguments, values outside the
documented range with the message they give. `UNRANGED`: arguments that take anything,
with the reason.
"""

import dataclasses
import re
from typing import Any

import keras
import numpy as np

import keras_fitkit as kf
from tests.contract import (
    block_cases,
    evidence_cases,
    regularizer_cases,
    report_cases,
)

LOSSES = {"loss": [1.0] * 9, "val_loss": [1.0] * 9}


@dataclasses.dataclass(frozen=True)
class Bad:
    """One value that must be refused."""

    value: Any
    text: str
    error: type[Exception] = ValueError
    others: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def match(self):
        return re.escape(self.text)

    def arguments(self, name):
        return {**self.others, name: self.value}


def bad(*values, text, error=ValueError, **others):
    return [Bad(value, text, error, others) for value in values]


def flags(*names):
    return {
        n: bad(1, "yes", text="must be True or False", error=TypeError) for n in names
    }


STEPS = {"begin_step": 1, "end_step": 10}
POLYNOMIAL = {"final_sparsity": 0.8, **STEPS}
ROUNDS = {"final_sparsity": 0.8, "rounds": 2}
N_OF_M = {"pattern": "2:4"}
TFMOT = {"compat": "tfmot"}
RIGL = {"regrow": "rigl", "data": (np.ones((2, 3)), np.ones((2, 1)))}

ROWS = {"x": np.ones((2, 1)), "seed": 0}
RUN = {"directory": "run"}
CHECKPOINT = {
    "directory": [
        *bad(__file__, text="a folder, not a file", callbacks=[]),
        *bad(f"{__file__}/run", text="is a file", callbacks=[]),
        *bad(3, text="a path (str or os.PathLike)", error=TypeError, callbacks=[]),
    ],
    "callbacks": [
        *bad([3], text="a list of keras.callbacks.Callback", error=TypeError, **RUN),
        *bad(
            [keras.callbacks.LambdaCallback()], text="whose state can be stored", **RUN
        ),
    ],
    "data": bad(
        np.ones(3), text="set_epoch(epoch)", error=TypeError, callbacks=[], **RUN
    ),
    "every": bad(0, text="an integer >= 1", callbacks=[], **RUN),
    "keep": bad(0, text="an integer >= 1", callbacks=[], **RUN),
    "verbose": bad(-1, 3, text="an integer in [0, 2]", callbacks=[], **RUN),
}


def dense(units=3, name=None):
    """A net of one layer: a teacher or a student."""
    layers = [keras.Input((4,)), keras.layers.Dense(units, name="dense")]
    return keras.Sequential(layers, name=name)


KD = kf.distillation
TAPPED = {"teacher_layer_name": "a", "student_layer_name": "b"}
LAYER_NAMES = {
    "teacher_layer_name": [
        *bad(3, text="the path of a layer", error=TypeError, student_layer_name="b"),
        *bad(None, text="given where the other layer", student_layer_name="b"),
    ],
    "student_layer_name": [
        *bad(3, text="the path of a layer", error=TypeError, teacher_layer_name="a"),
        *bad(None, text="given where the other layer", teacher_layer_name="a"),
    ],
}
LOSS_NAME = {"name": bad(3, "", text="a text that is not empty", error=TypeError)}
OUTPUT = {
    "output": [
        *bad(-1, text="an integer >= 0"),
        *bad(1.5, text="an integer >= 0", error=TypeError),
    ]
}
CONFIG = {
    "weight_bits": [
        *bad(1, 17, text="an integer in [2, 16]"),
        *bad("int8", text="an integer in [2, 16]", error=TypeError),
    ],
    "activation_bits": bad(1, 17, text="an integer in [2, 16]"),
    "ranges": bad("lsq", text="one of 'auto', 'moving_average', 'learned'"),
    "momentum": bad(1.0, -0.1, text="a number in [0, 1)"),
    "start_step": bad(-1, text="an integer >= 0"),
    "freeze_batch_norm_after": bad(-1, text="an integer >= 0"),
    **flags("per_channel"),
}
NET = {"model": dense()}
FILE = {"model": dense(), "path": "m.tflite"}
MEASURED = dense()
MEASURED.compile("sgd", "mse")
BITS = {
    "model": [
        *bad(3, text="a keras.Model", error=TypeError, x=1, y=1),
        *bad(dense(), text="compiled with a loss", x=1, y=1),
    ],
    "x": bad(3, text="arrays of inputs", error=TypeError, model=MEASURED, y=1),
    "y": bad(
        3,
        text="arrays of targets",
        error=TypeError,
        model=MEASURED,
        x=np.ones((2, 4)),
    ),
}
ROUNDED = kf.quantize_model(dense(), "int4-weights")
SAMPLED = {"model": ROUNDED, "x": np.ones((4, 4))}
NORMED = {
    "model": keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
}
ASKED_BITS = {"model": MEASURED, "x": np.ones((2, 4)), "y": np.ones((2, 3))}
BITS.update(
    bits=[
        *bad(8, "8", text="a list of different widths", error=TypeError, **ASKED_BITS),
        *bad((8, 1), text="an integer in [2, 8]", **ASKED_BITS),
    ],
    config=bad("int7", text="one of 'int8'", **ASKED_BITS),
    exclude=bad("no", text="patterns that match", **ASKED_BITS),
    batch_size=bad(0, text="an integer >= 1", **ASKED_BITS),
    verbose=bad(2, text="an integer in [0, 1]", **ASKED_BITS),
)
LIMITED_BITS = {
    name: [
        dataclasses.replace(one, others={**one.others, "size_budget": 1.0})
        for one in cases
    ]
    for name, cases in BITS.items()
}
PAIR = {"teacher": dense(), "student": dense()}
SOFT = {"distillation_losses": KD.LogitsDistillation()}
ASKED = {"teacher": dense(), "x": np.ones((2, 4)), "path": "no/such/folder"}

_NET = keras.Sequential(
    [
        keras.Input((4,)),
        keras.layers.Dense(8, name="hidden"),
        keras.layers.Dense(2, name="head"),
    ]
)
_OF_MODELS = [
    *bad(5, text="a keras.Model", error=TypeError),
    *bad(keras.Sequential([keras.layers.Dense(2)]), text="a built model"),
]
_SHRINK = {"model": _NET, "sparsity": 0.5}
_OPEN = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(1)])

_PACKED_PATH = [
    *bad(3, text="a path (str or os.PathLike)", error=TypeError, model=_NET),
    *bad("no/such/m.kfz", text="a path in a folder that exists", model=_NET),
]

BAD_ARGUMENTS = {
    "packed_size": {"model": _OF_MODELS},
    "save_packed": {
        "model": [
            dataclasses.replace(one, others={"path": "m.kfz"}) for one in _OF_MODELS
        ],
        "path": _PACKED_PATH,
        "overwrite": bad(
            1, text="must be True or False", error=TypeError, model=_NET, path="m.kfz"
        ),
    },
    "load_packed": {
        "path": [dataclasses.replace(one, others={}) for one in _PACKED_PATH],
        "custom_objects": bad(
            [3], text="None or a dict", error=TypeError, path="m.kfz"
        ),
        "max_bytes": [
            *bad(0, text="an integer >= 1", path="m.kfz"),
            *bad("1 GiB", text="an integer >= 1", error=TypeError, path="m.kfz"),
        ],
        **{
            name: bad(1, text="must be True or False", error=TypeError, path="m.kfz")
            for name in ("compile", "safe_mode")
        },
    },
    "count_macs": {
        "model": _OF_MODELS,
        "input_shape": [
            *bad(None, text="given where sizes are not known", model=_OPEN),
            *bad((0, 2), text="positive integers", model=_OPEN),
            *bad("3x2", text="positive integers", error=TypeError, model=_OPEN),
        ],
    },
    "OverfitMonitor": {
        "monitor": bad("val_loss", "", text="a training name, without 'val_'"),
        "mode": bad("mni", text="Did you mean 'min'"),
        "train_data": [
            *bad((np.ones((3, 1)), np.ones(2)), text="arrays of the same length"),
            *bad((np.ones((0, 1)), np.ones(0)), text="data with rows"),
            *bad(iter([1]), 5, text="cannot be read a second time", error=TypeError),
        ],
        "sample": bad(0, -3, text="an integer >= 1"),
        "rule": bad("prechelt", text="one of 'auto', 'gl', 'pq', 'up'"),
        "every": bad(0, text="an integer >= 1"),
        "action": bad("stpo", text="Did you mean 'stop'"),
        "verbose": bad(-1, 3, text="an integer in [0, 2]"),
        **flags("check_weights"),
    },
    "EarlyStopping": {
        "monitor": bad([], ["a", "a"], "", text="a list of different names"),
        "min_delta": bad(-0.1, text="a number >= 0"),
        "patience": [
            *bad(-1, text="an integer >= 0"),
            *bad(3, text="0 with a rule", criterion="gl"),
        ],
        "verbose": bad(-1, text="an integer >= 0"),
        "mode": bad("mni", text="Did you mean 'min'"),
        "baseline": bad(float("nan"), text="a number"),
        "start_from_epoch": bad(-1, text="an integer >= 0"),
        "min_delta_mode": bad("rel", text="one of 'absolute', 'relative'"),
        "smoothing": bad(1.0, -0.1, text="a number in [0, 1)"),
        "stopping_threshold": bad(float("inf"), text="a number"),
        "divergence_threshold": [
            *bad(float("inf"), text="a number"),
            *bad(
                0.1,
                text="above `stopping_threshold`",
                stopping_threshold=0.5,
                mode="min",
            ),
        ],
        "min_epochs": bad(-1, text="an integer >= 0"),
        "max_seconds": bad(0, -1.0, text="a number > 0"),
        "criterion": bad("ql", text="one of 'patience', 'gl', 'pq', 'up'"),
        "best_weights_path": [
            *bad("best.h5", text="a path that ends in '.weights.h5'"),
            *bad("no/such/a.weights.h5", text="a path in a folder that exists"),
        ],
        "start_when": bad("never", text="one of 'auto'"),
        "combine": bad("both", text="one of 'all', 'any'"),
        **flags("restore_best_weights", "check_finite"),
        "restore_best_optimizer": [
            *bad(1, text="must be True or False", error=TypeError),
            *bad(True, text="False without restore_best_weights=True"),
        ],
    },
    "ConstantSparsity": {
        "final_sparsity": bad(80, 1.0, -0.1, text="For 80 % pass 0.8."),
        "begin_step": bad(-1, text="an integer >= 0", final_sparsity=0.5),
        "end_step": bad(
            5, text="an integer > `begin_step`", final_sparsity=0.5, begin_step=5
        ),
        "frequency": bad(0, text="an integer >= 1", final_sparsity=0.5),
    },
    "PolynomialSparsity": {
        "final_sparsity": bad(80, 1.0, text="For 80 % pass 0.8.", **STEPS),
        "begin_step": bad(-1, text="an integer >= 0", final_sparsity=0.8, end_step=3),
        "end_step": bad(
            5, text="an integer > `begin_step`", final_sparsity=0.8, begin_step=5
        ),
        "initial_sparsity": [
            *bad(0.9, text="at most `final_sparsity`", **POLYNOMIAL),
            *bad(-0.1, text="a number in [0, 1)", **POLYNOMIAL),
        ],
        "power": bad(0, text="a number > 0", **POLYNOMIAL),
        "frequency": bad(0, text="an integer >= 1", **POLYNOMIAL),
    },
    "diagnose": {
        "source": bad(3, text="a History, a dict of lists", error=TypeError),
        "monitor": bad("los", text="Did you mean 'loss'", source=LOSSES),
        "mode": bad("mx", text="Did you mean 'max'", source=LOSSES),
        "rule": bad("gll", text="Did you mean 'gl'", source=LOSSES),
    },
    "OneShotSparsity": {
        "final_sparsity": bad(80, 1.0, -0.1, text="For 80 % pass 0.8."),
        "step": bad(0, text="an integer >= 1", final_sparsity=0.5),
    },
    "CosineSparsity": {
        "final_sparsity": bad(80, 1.0, text="For 80 % pass 0.8.", **STEPS),
        "begin_step": bad(-1, text="an integer >= 0", final_sparsity=0.8, end_step=3),
        "end_step": bad(
            5, text="an integer > `begin_step`", final_sparsity=0.8, begin_step=5
        ),
        "initial_sparsity": bad(0.9, text="at most `final_sparsity`", **POLYNOMIAL),
        "frequency": bad(0, text="an integer >= 1", **POLYNOMIAL),
    },
    "IterativeSparsity": {
        "final_sparsity": bad(80, 1.0, text="For 80 % pass 0.8.", rounds=2),
        "rounds": bad(0, text="an integer >= 1", final_sparsity=0.8),
        "rewind_step": [
            *bad(-1, text="an integer >= 0", **ROUNDS),
            *bad(9, text="at most the 5 steps", steps_per_round=5, **ROUNDS),
        ],
        "rewind_optimizer": bad(True, text="False without `rewind_step`", **ROUNDS),
        "steps_per_round": bad(0, text="an integer >= 1", **ROUNDS),
    },
    "PruneSchedule": {
        "sparsity": [
            *bad(80, 1.0, -0.1, text="For 80 % pass 0.8."),
            *bad("0.8", text="a fraction in [0, 1), or a schedule", error=TypeError),
            *bad(lambda: 0.5, text="be called with 1", error=TypeError),
            *bad(0.9, text="0.5, which pattern='2:4' fixes", pattern="2:4"),
        ],
        "allocation": [
            *bad("globl", text="Did you mean 'global'", sparsity=0.5),
            *bad({}, text="a dict that is not empty", sparsity=0.5),
            *bad("erk", text="'uniform' with pattern='2:4'", sparsity=0.5, **N_OF_M),
            *bad("global", text="'uniform' with `compat`", sparsity=0.5, **TFMOT),
        ],
        "scores": [
            *bad("magnitud", text="Did you mean 'magnitude'", sparsity=0.5),
            *bad("lamp", text="'magnitude' with `compat`", sparsity=0.5, **TFMOT),
            *bad(abs, text="be called with 2", error=TypeError, sparsity=0.5),
        ],
        "pattern": [
            *bad("unstructred", text="Did you mean 'unstructured'", sparsity=0.5),
            *bad("4:2", "0:4", text="N of M weights stay", sparsity=0.5),
            *bad(("block", 4), text="('block', (rows, columns))", sparsity=0.5),
            *bad(("block", (4, 0)), text="two integers >= 1", sparsity=0.5),
            *bad("row", text="'unstructured' or 'N:M'", sparsity=0.5, **TFMOT),
            *bad("row", text="'unstructured' with `regrow`", sparsity=0.5, **RIGL),
        ],
        "layers": [
            *bad(3, text="a pattern of a path", error=TypeError, sparsity=0.5),
            *bad([], text="a list that is not empty", sparsity=0.5),
        ],
        "exclude": bad("", text="a pattern of a path", error=TypeError, sparsity=0.5),
        "data": [
            *bad(None, text="(x, y) for scores='snip'", sparsity=0.5, scores="snip"),
            *bad(None, text="(x, y) for regrow='rigl'", sparsity=0.5, regrow="rigl"),
            *bad(np.ones(3), text="(x, y) or", error=TypeError, sparsity=0.5),
            *bad((np.ones(3), np.ones(2)), text="of the same length", sparsity=0.5),
        ],
        "regrow": [
            *bad("rigle", text="Did you mean 'rigl'", sparsity=0.5),
            *bad("rigl", text="None with `compat`", sparsity=0.5, **TFMOT),
        ],
        "compat": bad("tfmott", text="Did you mean 'tfmot'", sparsity=0.5),
        "verbose": bad(-1, 3, text="an integer in [0, 2]", sparsity=0.5),
    },
    "Checkpoint": CHECKPOINT,
    "resumable": CHECKPOINT,
    "ReproducibleDataset": {
        "x": [
            *bad(3, text="arrays (or a dict", error=TypeError, seed=0),
            *bad(np.ones((0, 2)), text="not empty", seed=0),
        ],
        "y": bad(np.ones(3), text="the 2 rows of `x`", **ROWS),
        "batch_size": bad(0, text="an integer >= 1", **ROWS),
        "seed": bad(-1, text="an integer >= 0", x=np.ones((2, 1))),
        "sample_weight": [
            *bad(np.ones(3), text="the 2 rows of `x`", y=np.ones(2), **ROWS),
            *bad(np.ones(2), text="None without `y`", **ROWS),
        ],
        "transform": [
            *bad(3, text="a callable (x, rng) -> x", error=TypeError, **ROWS),
            *bad(abs, text="a callable (x, rng) -> x", error=TypeError, **ROWS),
        ],
        "workers": bad(0, text="an integer >= 1", **ROWS),
        "max_queue_size": bad(0, text="an integer >= 1", **ROWS),
        "shuffle": bad(1, text="must be True or False", error=TypeError, **ROWS),
    },
    "HyperparameterSchedule": {
        "variable": bad(
            3, "", text="the name of a variable", error=TypeError, start=1, end=0
        ),
        "start": [
            *bad("1", text="a number", error=TypeError, variable="v", end=0),
            *bad(2, text="in [0, 1]", variable="student_loss_weight", end=0),
            *bad(0, text="above 0", variable="v", end=1, shape="exponential"),
        ],
        "end": bad(-1, text="a number >", variable="temperature", start=1),
        "begin_step": bad(0, text="an integer >= 1", variable="v", start=1, end=0),
        "end_step": bad(
            5, text="an integer >= 6", variable="v", start=1, end=0, begin_step=5
        ),
        "shape": bad(
            "line", text="Did you mean 'linear'", variable="v", start=1, end=0
        ),
        "frequency": bad(0, text="an integer >= 1", variable="v", start=1, end=0),
    },
    "Distiller": {
        "teacher": [
            *bad(
                3,
                text="a keras.Model, a call",
                error=TypeError,
                student=dense(),
                **SOFT,
            ),
            *bad(
                [],
                text="a keras.Model, a call",
                error=TypeError,
                student=dense(),
                **SOFT,
            ),
            *bad([(dense(), 0)], text="a weight", student=dense(), **SOFT),
        ],
        "student": [
            *bad(3, text="a keras.Model", error=TypeError, teacher=dense(), **SOFT),
            *bad(dense(5), text="the 3 classes", teacher=dense(), **SOFT),
        ],
        "distillation_losses": [
            *bad("kl", text="a DistillationLoss", error=TypeError, **PAIR),
            *bad([], text="not empty", **PAIR),
        ],
        "distillation_loss_weights": [
            *bad([1, 2], text="each of the 1 losses", **PAIR, **SOFT),
            *bad(-1, text="a number >= 0", **PAIR, **SOFT),
        ],
        "student_loss_weight": bad(-0.1, 1.1, text="in [0, 1]", **PAIR, **SOFT),
        "teacher_inputs": bad(
            3, lambda: 0, text="a callable (x) -> x", error=TypeError, **PAIR, **SOFT
        ),
        "from_logits": [
            *bad(
                "yes",
                {"pupil": True},
                text="'auto', True",
                error=TypeError,
                **PAIR,
                **SOFT,
            ),
            *bad(False, text="True or 'auto' for the teacher", **PAIR, **SOFT),
        ],
        "save_teacher": bad(1, text="True or False", error=TypeError, **PAIR, **SOFT),
    },
    "cache_teacher": {
        "teacher": bad(
            3,
            text="a keras.Model, a call",
            error=TypeError,
            x=np.ones((2, 4)),
            path="c",
        ),
        "x": [
            *bad(
                iter([1]),
                text="arrays (or a",
                error=TypeError,
                teacher=dense(),
                path="c",
            ),
            *bad(np.ones((0, 4)), text="not empty", teacher=dense(), path="c"),
        ],
        "path": bad(
            __file__, text="a folder, not a file", teacher=dense(), x=np.ones((2, 4))
        ),
        "taps": bad(3, [""], text="a list of paths", error=TypeError, **ASKED),
        "dtype": bad("float8", text="one of 'float16', 'float32'", **ASKED),
        "top_k": [
            *bad(0, text="an integer >= 1", **ASKED),
            *bad(4, text="at most the classes", **ASKED),
        ],
        "batch_size": bad(0, text="an integer >= 1", **ASKED),
        "teacher_inputs": bad(3, text="a callable (x)", error=TypeError, **ASKED),
        "from_logits": bad("yes", text="'auto', True", error=TypeError, **ASKED),
        "verbose": bad(2, text="an integer in [0, 1]", **ASKED),
    },
    "distillation.TeacherCache": {
        "path": [
            *bad(3, text="a path", error=TypeError),
            *bad("no/such/folder", text="a whole teacher cache"),
        ]
    },
    "distillation.DistillationLoss": LOSS_NAME,
    "distillation.OutputSpec": {
        "activation": bad("relu", text="one of 'softmax'", where="here", shape=None),
        "assumed": bad(1, text="True or False", error=TypeError, where="", shape=None),
    },
    "distillation.LogitsDistillation": {
        "temperature": bad(0, -1, text="a number > 0"),
        "loss": bad("mse", text="one of 'kl_divergence'"),
        "activation": bad("tanh", text="one of 'auto', 'softmax', 'sigmoid'"),
        **flags("standardize"),
        **OUTPUT,
        **LOSS_NAME,
    },
    "distillation.DecoupledDistillation": {
        "alpha": bad(-1, text="a number >= 0"),
        "beta": bad(-1, text="a number >= 0"),
        "temperature": bad(0, text="a number > 0"),
        **OUTPUT,
        **LOSS_NAME,
    },
    "distillation.DIST": {
        "beta": bad(-1, text="a number >= 0"),
        "gamma": bad(-1, text="a number >= 0"),
        "temperature": bad(0, text="a number > 0"),
        **OUTPUT,
        **LOSS_NAME,
    },
    "distillation.FeatureDistillation": {
        **LAYER_NAMES,
        "loss": bad("huber", text="one of 'mse', 'mae', 'cosine_similarity'"),
        "projector": bad(3, "dense", text="'auto', None", error=TypeError),
        **LOSS_NAME,
    },
    "distillation.AttentionTransfer": {
        **LAYER_NAMES,
        "name": [dataclasses.replace(one, others=TAPPED) for one in LOSS_NAME["name"]],
    },
    "distillation.SimilarityPreserving": {**LAYER_NAMES, **LOSS_NAME},
    "distillation.RelationalDistillation": {
        **LAYER_NAMES,
        "distance_weight": bad(-1, text="a number >= 0"),
        "angle_weight": [
            *bad(-1, text="a number >= 0"),
            *bad(0, text="above 0 where", distance_weight=0),
        ],
        **LOSS_NAME,
    },
    "distillation.ContrastiveDistillation": {
        **LAYER_NAMES,
        "dim": bad(0, text="an integer >= 1"),
        "temperature": bad(0, text="a number > 0"),
        "queue": bad(-1, text="an integer >= 0"),
        **LOSS_NAME,
    },
    "QuantizeConfig": CONFIG,
    "QuantizeWrapper": {
        "layer": [
            *bad(3, text="a keras.layers.Layer", error=TypeError),
            *bad(keras.layers.LayerNormalization(), text="that can be quantized"),
        ],
        "config": bad("int7", text="one of 'int8'", layer=keras.layers.Dense(1)),
        "quantize_output": bad(
            1, text="True or False", error=TypeError, layer=keras.layers.Dense(1)
        ),
        "stands_alone": bad(
            1, text="True or False", error=TypeError, layer=keras.layers.Dense(1)
        ),
    },
    "quantize_model": {
        "model": bad(3, text="a keras.Model", error=TypeError),
        "config": bad("int7", text="one of 'int8'", **NET),
        "overrides": bad(3, text="a dict from patterns", error=TypeError, **NET),
        "exclude": bad("no", text="patterns that match", **NET),
        "return_report": bad(1, text="True or False", error=TypeError, **NET),
    },
    "strip_quantization": {
        "model": [
            *bad(3, text="a keras.Model", error=TypeError),
            *bad(dense(), text="that `kf.quantize_model` made"),
        ]
    },
    "export_litert": {
        "model": bad(3, text="a keras.Model", error=TypeError, path="m.tflite"),
        "path": bad("no/such/m.tflite", text="a folder that exists", **NET),
        "mode": bad("int4", text="one of 'auto'", **FILE),
        "calibration_data": bad(np.ones(3), text="arrays of the shapes", **FILE),
        "io_dtype": [
            *bad("uint8", text="one of 'float32', 'int8'", **FILE),
            *bad("int8", text="'float32' with mode='float32'", **FILE),
        ],
        "batch_size": bad(0, text="an integer >= 1", **FILE),
        "check_data": bad(np.ones(3), text="arrays of the shapes", **FILE),
        "allow_float": bad(3, text="a list of patterns", error=TypeError, **FILE),
        **{
            name: [dataclasses.replace(one, others=FILE) for one in cases]
            for name, cases in flags("strict").items()
        },
    },
    "run_litert": {
        "path": bad("no.tflite", text="a file that exists", x=np.ones((2, 4))),
    },
    "reestimate_batch_norm": {
        "model": [
            *bad(3, text="a keras.Model", error=TypeError, x=1),
            *bad(dense(), text="a BatchNormalization", x=np.ones((4, 4))),
        ],
        "x": [
            *bad(3, text="arrays of inputs, or a dataset", error=TypeError, **NORMED),
            *bad(np.ones((0, 4)), text="not empty", **NORMED),
            *bad(np.full((4, 4), np.nan), text="batches of finite values", **NORMED),
            *bad(iter(()), text="batches that reach every norm", **NORMED),
        ],
        "batch_size": bad(1, text="an integer >= 2", x=np.ones((4, 4)), **NORMED),
        "max_batches": bad(0, text="an integer >= 1", x=np.ones((4, 4)), **NORMED),
        "verbose": bad(2, text="an integer in [0, 1]", x=np.ones((4, 4)), **NORMED),
    },
    "calibrate": {
        "model": [
            *bad(3, text="a keras.Model", error=TypeError, x=np.ones((4, 4))),
            *bad(dense(), text="`kf.quantize_model` made", x=np.ones((4, 4))),
        ],
        "x": [
            *bad(None, text="arrays of inputs", error=TypeError, model=ROUNDED),
            *bad(np.ones((4, 3)), text="arrays of the shapes", model=ROUNDED),
        ],
        "methods": [
            *bad("steps", 3, text="a list of some", error=TypeError, **SAMPLED),
            *bad(["adaround"], text="one of 'ranges'", **SAMPLED),
        ],
        "batch_size": bad(0, text="an integer >= 1", **SAMPLED),
        "verbose": bad(2, text="an integer in [0, 1]", **SAMPLED),
        **{
            name: [dataclasses.replace(one, others=SAMPLED) for one in cases]
            for name, cases in flags("return_report").items()
        },
    },
    "bit_sensitivity": BITS,
    "assign_bits": {
        **LIMITED_BITS,
        "size_budget": [
            *bad(0, 1.5, text="a number in (0, 1]", **ASKED_BITS),
            *bad(None, text="One of `size_budget` and", **ASKED_BITS),
        ],
        "max_loss_increase": bad(-1, text="a number >= 0", **ASKED_BITS),
        "sensitivity": bad(
            3, text="kf.bit_sensitivity", error=TypeError, size_budget=1.0, **ASKED_BITS
        ),
    },
    "ClusterWeights": {
        "num_clusters": bad(1, 2**17, text="an integer in [2, 65536]"),
        "init": bad("best", text="one of 'kmeans++'", num_clusters=2),
        "layers": bad(3, text="a pattern of a path", error=TypeError, num_clusters=2),
        "exclude": bad(3, text="a pattern of a path", error=TypeError, num_clusters=2),
        "verbose": bad(2, text="an integer in [0, 1]", num_clusters=2),
        **{
            name: [
                dataclasses.replace(one, others={"num_clusters": 2}) for one in cases
            ]
            for name, cases in flags("per_channel", "preserve_zeros").items()
        },
    },
    "quantization.FakeQuantize": {
        "bits": bad(1, 17, text="an integer in [2, 16]"),
        "momentum": bad(1.0, text="a number in [0, 1)"),
        "start_step": bad(-1, text="an integer >= 0"),
        "fixed": [
            *bad((1, 2), text="the first <= 0 <= the second"),
            *bad(3, text="None or two numbers", error=TypeError),
        ],
        **flags("learned"),
    },
    "quantization.register": {
        "layer_class": bad(3, text="a subclass of keras", error=TypeError),
        "kernels": bad(
            "kernel",
            text="a list of names",
            error=TypeError,
            layer_class=keras.layers.Layer,
        ),
        "kind": bad("weird", text="one of", layer_class=keras.layers.Layer),
    },
    "sparsity_of": {"model": bad(3, text="a keras.Model", error=TypeError)},
    "channel_groups": {
        "model": _OF_MODELS,
        "allow_inexact": bad(
            1, text="must be True or False", error=TypeError, model=_NET
        ),
    },
    "measure_latency": {
        "model": [
            *bad(5, text="a keras.Model", error=TypeError, x=np.ones((1, 4))),
            *bad("no.tflite", text="a LiteRT file that is there", x=np.ones((1, 4))),
        ],
        "x": bad(np.ones((0, 4)), text="not empty", model=_NET),
        "against": bad(
            5, text="a keras.Model", error=TypeError, model=_NET, x=np.ones((1, 4))
        ),
        "runs": bad(4, text="an integer >= 5", model=_NET, x=np.ones((1, 4))),
        "runtimes": bad("TF", text="one of 'Keras'", model=_NET, x=np.ones((1, 4))),
    },
    "drop_layers": {
        "model": [dataclasses.replace(one, others={"n": 1}) for one in _OF_MODELS],
        "n": [
            *bad(0, text="an integer >= 1", model=_NET),
            *bad(1, text="at most 0: what can go is none", model=_NET),
        ],
        "scores": bad("l1", text="one of 'influence', 'loss'", model=_NET, n=1),
        "data": bad(
            None, text="given for scores='loss'", model=_NET, n=1, scores="loss"
        ),
        "return_report": bad(
            1, text="must be True or False", error=TypeError, model=_NET, n=1
        ),
    },
    "widen": {
        "model": [dataclasses.replace(one, others={"factor": 2}) for one in _OF_MODELS],
        "factor": bad(1, 0.5, text="a number > 1", model=_NET),
        "layers": bad("hiden", text="Did you mean 'hidden'", model=_NET, factor=2),
        "noise": bad(-0.1, text="a number >= 0", model=_NET, factor=2),
        "seed": bad(-1, text="an integer >= 0", model=_NET, factor=2),
    },
    "shrink": {
        "model": _OF_MODELS,
        "sparsity": [
            *bad(1.0, -0.1, 50, text="a number in [0, 1)", model=_NET),
            *bad(0.99, text="at most 0.8750", model=_NET),
        ],
        "target_macs": [
            *bad(0, 1.5, text="a number in (0, 1]", model=_NET),
            *bad(0.01, text="at least 0.125", model=_NET),
            *bad(0.5, text="None where `sparsity`", **_SHRINK),
        ],
        "target_params": bad(0, 1.5, text="a number in (0, 1]", model=_NET),
        "scores": bad("l3", text="one of 'l1', 'l2'", **_SHRINK),
        "data": bad(None, text="given for scores='taylor'", scores="taylor", **_SHRINK),
        "allocation": bad("local", text="must be one of", **_SHRINK),
        "round_to": bad(0, text="an integer >= 1", **_SHRINK),
        "min_keep": bad(0, text="an integer >= 1", **_SHRINK),
        "layers": [
            *bad("hiden", text="Did you mean 'hidden'", **_SHRINK),
            *bad({"hidden": 1.0}, text="a number in [0, 1)", model=_NET),
            *bad({}, text="a dict that is not empty", model=_NET),
            *bad(5, text="a pattern of a path", error=TypeError, **_SHRINK),
        ],
        "exclude": bad("hiden", text="Did you mean 'hidden'", **_SHRINK),
        **{
            name: bad(1, text="must be True or False", error=TypeError, **_SHRINK)
            for name in ("allow_inexact", "return_report")
        },
    },
    "monitoring.OverfitTrend": {
        "decay": bad(1.0, text="a number in [0, 1)"),
        "relative": bad(-0.1, text="a number >= 0"),
        "sigmas": bad(-0.1, text="a number >= 0"),
        "window": bad(2, text="an integer >= 3"),
        "patience": bad(0, text="an integer >= 1"),
        "gap_z": bad(-1, text="a number >= 0"),
        "train_fall": bad(1.0, text="a number in [0, 1)"),
        "large": bad(-0.1, text="a number >= 0"),
        "large_patience": bad(0, text="an integer >= 1"),
    },
    "monitoring.GeneralizationLoss": {"threshold": bad(0, text="a number > 0")},
    "monitoring.ProgressQuotient": {
        "threshold": bad(0, text="a number > 0"),
        "strip": bad(0, text="an integer >= 1"),
    },
    "monitoring.SuccessiveStrips": {
        "successive": bad(0, text="an integer >= 1"),
        "strip": bad(0, text="an integer >= 1"),
    },
}

BLOCKS = block_cases.rows(bad)
BAD_ARGUMENTS.update(BLOCKS)
BAD_ARGUMENTS.update(regularizer_cases.table(bad, flags))
BAD_ARGUMENTS.update(evidence_cases.table(bad, flags))
BAD_ARGUMENTS.update(report_cases.table(bad, flags))

# Public callables all of whose arguments stand above have no entry here.
UNRANGED: dict[str, dict[str, str]] = {
    **block_cases.unranged(BLOCKS),
    **regularizer_cases.UNRANGED,
    "Distiller": {"name": "Keras checks the names of models"},
    "QuantizeWrapper": {"kwargs": "Keras checks them"},
    "quantization.FakeQuantize": {"kwargs": "Keras checks them"},
    "run_litert": {
        "x": "needs a file: tests/quantization/test_export.py",
        "threads": "needs a file: tests/quantization/test_export.py",
    },
    "distillation.OutputSpec": {
        "where": "words for messages",
        "shape": "made by the distiller, read by losses",
    },
}

# Callbacks, made so that they do their work in a fit of a few epochs.
CALLBACKS = {
    "ClusterWeights": lambda: kf.ClusterWeights(4),
    "OverfitMonitor": lambda: kf.OverfitMonitor(verbose=0),
    "OverfitMonitor-running-mean": lambda: kf.OverfitMonitor(
        train_data=None, verbose=0
    ),
    "EarlyStopping": lambda: kf.EarlyStopping(patience=9, restore_best_weights=True),
    "EarlyStopping-list": lambda: kf.EarlyStopping(
        ["val_loss", "val_mae"],
        patience=9,
        smoothing=0.5,
        restore_best_weights=True,
        restore_best_optimizer=True,
    ),
    "EarlyStopping-gl": lambda: kf.EarlyStopping(criterion="gl"),
    # Adam's own rate, so that the fit beside it stays what it is.
    "HyperparameterSchedule": lambda: kf.HyperparameterSchedule(
        "learning_rate", 1e-3, 1e-3, frequency=1
    ),
    "PruneSchedule": lambda: kf.PruneSchedule(0.5),
    "PruneSchedule-rewinding": lambda: kf.PruneSchedule(
        kf.IterativeSparsity(0.5, rounds=1, rewind_step=0, rewind_optimizer=True)
    ),
}
