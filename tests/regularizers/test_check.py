"""check: each mistake is found, with its numbers; nothing is said of what is right."""

import io
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import keras_fitkit as kf

layers, losses = keras.layers, keras.losses
ROWS = 200


def net(*last, inputs=4, loss="mse", metrics=None):
    model = keras.Sequential(
        [keras.Input((inputs,)), layers.Dense(5, "relu", name="hidden"), *last]
    )
    model.compile("sgd", loss, metrics=metrics)
    return model


def classes(count=3, activation="softmax", **more):
    more.setdefault("loss", losses.SparseCategoricalCrossentropy())
    return net(layers.Dense(count, activation, name="head"), **more)


def rows(count=ROWS, features=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, features)).astype("float32")


def labels(count=ROWS, classes=3):
    return np.arange(count) % classes


def look(model, x=None, y=None, validation=True):
    x = rows() if x is None else x
    y = labels(len(x)) if y is None else y
    # Other rows, of the same kind.
    other = (x[:50] + 1e-3, y[:50]) if validation else None
    return kf.check(model, (x, y), other)


def only(report, rule, severity="error"):
    """The one finding there is."""
    assert [(one.rule, one.severity) for one in report.findings] == [(rule, severity)]
    return report.findings[0]


def test_nothing_is_found_in_what_is_right():
    report = look(classes(metrics=["accuracy"]))
    assert report.ok
    assert report
    assert (report.findings, report.unchecked) == ((), {})
    assert report.summary == (
        "nothing found; 200 training rows and 50 validation rows looked at"
    )


SMALL = classes()


@settings(max_examples=25, deadline=None)
@given(
    shift=st.floats(-2, 2),
    width=st.floats(0.1, 2),
    seed=st.integers(0, 1000),
    count=st.integers(30, 300),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_no_false_alarm(shift, width, seed, count, dtype):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, width, (count + 40, 4)).astype(dtype)
    y = rng.permutation(np.arange(count + 40) % 3)
    report = kf.check(SMALL, (x[:count], y[:count]), (x[count:], y[count:]))
    assert report.findings == ()
    assert report.unchecked == {}


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (
            net(
                layers.Dense(1, "sigmoid"),
                loss=losses.BinaryCrossentropy(),
                metrics=["accuracy"],
            ),
            labels(classes=2)[:, None],
        ),
        (
            net(layers.Dense(1), loss=losses.BinaryCrossentropy(from_logits=True)),
            labels(classes=2).astype("float32"),
        ),
        (
            net(layers.Dense(4, "sigmoid"), loss="binary_crossentropy"),
            np.eye(4)[labels(classes=4)],
        ),
        (
            net(layers.Dense(3), layers.Softmax(), loss="categorical_crossentropy"),
            np.eye(3)[labels()],
        ),
        (
            net(layers.Dense(3), loss=losses.CategoricalCrossentropy(from_logits=True)),
            np.eye(3)[labels()],
        ),
        (net(layers.Dropout(0.5), layers.Dense(1), metrics=["mae"]), rows()[:, 0]),
        (net(layers.Dense(1, "relu"), loss="mae"), np.abs(rows()[:, :1])),
        (net(layers.Dense(2, "tanh"), loss="huber"), np.tanh(rows()[:, :2])),
        (
            classes(
                loss=losses.SparseCategoricalCrossentropy(ignore_class=-1), count=3
            ),
            np.where(labels() == 2, -1, labels()),
        ),
    ],
)
def test_right_pairs_of_activation_loss_and_labels(model, y):
    report = look(model, y=y)
    assert report.findings == ()


@pytest.mark.parametrize(
    ("model", "fix"),
    [
        (
            classes(loss=losses.SparseCategoricalCrossentropy(from_logits=True)),
            "keras.losses.SparseCategoricalCrossentropy()",
        ),
        (
            classes(activation=None, loss="sparse_categorical_crossentropy"),
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)",
        ),
        (classes(activation="relu"), "from_logits=True"),
        (classes(activation="sigmoid"), 'activation="softmax"'),
    ],
)
def test_loss_and_activation(model, fix):
    found = only(look(model), "loss and activation")
    assert fix in found.fix
    values = keras.ops.convert_to_numpy(model(rows()[:64], training=False))
    assert found.evidence["low"] == pytest.approx(float(values.min()), abs=1e-5)
    assert f"{values.max():.4g}"[:4] in found.text


def test_a_softmax_of_one_unit():
    model = net(layers.Dense(1, "softmax"), loss="binary_crossentropy")
    found = look(model, y=labels(classes=2)).of("loss and activation")
    assert any('Dense(1, activation="sigmoid")' in one.fix for one in found)


def test_a_subclassed_model_is_judged_by_its_outputs():
    class Mine(keras.Model):
        def __init__(self, activation):
            super().__init__()
            self.head = layers.Dense(3, activation)

        def call(self, inputs):
            return self.head(inputs)

    for activation, logits, severity in (
        ("softmax", True, "warning"),
        (None, False, "error"),
    ):
        model = Mine(activation)
        model(rows()[:2])
        model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=logits))
        report = look(model)
        only(report, "loss and activation", severity)
        assert "cannot be seen" in report.unchecked["dropout at the end"]


@pytest.mark.parametrize(
    ("activation", "logits", "found"), [(None, True, 0), ("sigmoid", True, 1)]
)
def test_a_linear_output_that_lies_in_0_to_1_is_no_sigmoid(activation, logits, found):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(
                1, activation, kernel_initializer="ones", bias_initializer="zeros"
            )

        def call(self, inputs):
            return self.head(inputs)

    x = np.random.default_rng(0).uniform(0.05, 0.2, (ROWS, 4)).astype("float32")
    model = Mine()
    model(x[:2])
    model.compile("sgd", losses.BinaryCrossentropy(from_logits=logits))
    report = look(model, x, labels(classes=2))
    assert len(report.findings) == found


@pytest.mark.parametrize(
    ("activation", "target", "share"),
    [("relu", -1.0, "50%"), ("sigmoid", 2.0, "50%"), ("tanh", -3.0, "50%")],
)
def test_targets_out_of_reach(activation, target, share):
    y = np.where(labels(classes=2) == 1, target, 0.5)
    found = only(look(net(layers.Dense(1, activation)), y=y), "loss and activation")
    assert share in found.text
    assert 'activation="linear"' in found.fix


@pytest.mark.parametrize(
    ("loss", "units", "y", "text", "fix"),
    [
        ("sparse_categorical_crossentropy", 3, labels() + 1, "from 1 to 3", "y - 1"),
        ("sparse_categorical_crossentropy", 3, labels() - 1, "from -1 to 1", "unique"),
        ("sparse_categorical_crossentropy", 3, labels() * 5, "0 to 10", "Dense(11)"),
        ("sparse_categorical_crossentropy", 3, np.eye(3)[labels()], "one-hot", "argm"),
        ("sparse_categorical_crossentropy", 3, labels() / 2, "no whole", '"mse"'),
        ("categorical_crossentropy", 3, labels(), "takes 3 columns", "Sparse"),
        ("categorical_crossentropy", 3, np.ones((ROWS, 3)), "sum to 1", '"sigmoid"'),
        ("binary_crossentropy", 1, labels(classes=2) * 2 - 1, "-1 to 1", "y > 0"),
        ("binary_crossentropy", 1, labels(), "from 0 to 2", "y > 0"),
    ],
)
def test_labels(loss, units, y, text, fix):
    activation = "sigmoid" if loss.startswith("binary") else "softmax"
    found = only(look(classes(units, activation, loss=loss), y=y), "labels")
    assert text in found.text
    assert fix in found.fix


def test_labels_of_steps_and_pixels_are_no_one_hot_labels():
    """As many steps, or columns, as there are classes."""
    inputs = keras.Input((8, 4))
    words = keras.Model(inputs, layers.Dense(8)(inputs))
    words.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(60, 8, 4)).astype("float32")
    y = np.random.default_rng(1).integers(0, 8, (60, 8))
    assert kf.check(words, (x[:40], y[:40]), (x[40:], y[40:])).findings == ()


@pytest.mark.parametrize(
    ("y", "text", "fix"),
    [
        (np.array(["cat", "dog"] * 100), "no numbers: 'cat'", "return_inverse"),
        (labels().astype(object), "no numbers: '0'", 'np.asarray(y, "float32")'),
        (np.zeros(ROWS, int), "all 200 labels of 'output' are class 0", "split"),
    ],
)
def test_labels_that_are_text_or_one_class(y, text, fix):
    found = only(look(SMALL, y=y), "labels")
    assert text in found.text
    assert fix in found.fix


def test_rows_that_are_no_numbers_or_of_another_shape():
    other = (rows(50, seed=1), labels(50))
    found = kf.check(SMALL, (rows().astype(object), labels()), other)
    assert "Python objects" in only(found, "not numbers").text
    x = np.array([["a", 1.0, 2.0, 3.0]] * 100 + [["b", 1.5, 2.5, 3.0]] * 100, object)
    found = kf.check(SMALL, (x, labels()), (rows(50), labels(50)))
    assert "str: 'a'" in only(found, "not numbers").text
    wide = kf.check(SMALL, (rows(features=5), labels()), (rows(50, 5, 1), labels(50)))
    assert "keras.Input((5,))" in only(wide, "shape").fix
    x = rows(ROWS).reshape(ROWS, 2, 2)
    found = kf.check(SMALL, (x, labels()), (rows(50, seed=1), labels(50)))
    assert only(found, "shape").fix == "x = x.reshape(-1, 4)"
    pair = kf.check(SMALL, ((rows(), rows()), labels()), (rows(50), labels(50)))
    assert "1 inputs, and the data 2" in pair.of("shape")[0].text
    listed = kf.check(SMALL, (rows().tolist(), labels()), (rows(50), labels(50)))
    assert "np.array(x)" in only(listed, "data").fix
    assert listed.render().count("\nnot checked") == 1  # one reason, one line


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the others have no text tensors"
)
def test_text_for_a_model_that_reads_it():
    import tensorflow as tf

    words = layers.TextVectorization(vocabulary=["good", "bad"])
    model = keras.Sequential(
        [words, layers.Embedding(4, 2), layers.GlobalAveragePooling1D()]
    )
    model.add(layers.Dense(3, "softmax"))
    x = np.array(["good one", "bad one"] * 20)
    model(tf.constant(x[:2]))
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert not kf.check(model, (x, labels(40))).of("not numbers")


def test_all_labels_and_numbers_of_arrays_are_looked_at():
    x, y = rows(9000), labels(9000)
    y[8123], x[7654, 2] = 3, np.nan
    report = kf.check(SMALL, (x, y), (rows(50, seed=1), labels(50)))
    assert report.rows == 2048
    assert "go from 0 to 3" in report.of("labels")[0].text
    assert report.of("not finite")[0].text == (
        "1 of 9,000 rows of 'x' hold NaN or infinity, in column 2"
    )


def test_the_validation_rows_are_looked_at_too():
    x, y = rows(60, seed=1), labels(60)
    broken = np.where(x > 2, np.nan, x)
    found = only(kf.check(SMALL, (rows(), labels()), (broken, y)), "not finite")
    assert found.text.startswith("in the validation data: ")
    found = only(kf.check(SMALL, (rows(), labels()), (x, y + 1)), "labels")
    assert "in the validation data: the labels" in found.text
    found = only(kf.check(SMALL, (rows(), labels()), (x * 255, y)), "scaled otherwise")
    assert found.evidence["validation"] == pytest.approx(np.abs(x * 255).mean(), 1e-5)
    only(kf.check(SMALL, (rows(), labels()), (x,)), "no validation")


def test_parts_that_are_split_by_class():
    x = rows(60, seed=1)
    sorted_ = kf.check(SMALL, (rows(), labels() % 2), (x, labels(60)))
    found = only(sorted_, "other classes", "warning")
    assert found.evidence == {"classes": [2]}
    assert "stratify=y" in found.fix
    gone = kf.check(SMALL, (rows(), labels()), (x, labels(60) % 2))
    assert "in no validation row: 2" in only(gone, "other classes", "warning").text


def test_targets_in_thousands():
    price = rows()[:, 0] * 5e4 + 3e5
    found = only(look(net(layers.Dense(1)), y=price), "unscaled", "warning")
    assert found.evidence["mean"] == pytest.approx(price.mean(), rel=1e-4)
    scaled = net(layers.Dense(1), layers.Rescaling(5e4, 3e5))
    assert look(scaled, y=price).ok
    assert look(net(layers.Dense(1), loss="msle"), y=np.abs(price)).ok


def test_targets_that_are_repeated_or_all_the_same():
    found = only(look(net(layers.Dense(3)), y=rows()[:, :1]), "labels")
    assert "one of them is repeated" in found.text
    only(look(net(layers.Dense(1)), y=np.ones(ROWS)), "labels")


def test_accuracy_of_a_regression():
    model = net(layers.Dense(1), metrics=["accuracy"])
    assert only(look(model, y=rows()[:, 0]), "metric", "warning").fix == (
        'metrics=["mae"]'
    )


def test_nan_in_rows_and_labels():
    x, y = rows(), rows()[:, 0].copy()
    x[3, 1] = x[4, 1] = np.nan
    y[7] = np.inf
    found = {one.rule: one for one in look(net(layers.Dense(1)), x, y).findings}
    assert (
        found["not finite"].text
        == ("2 of 200 rows of 'x' hold NaN or infinity, in column 1")
        or "2 of 200 rows" in found["not finite"].text
    )
    assert found["labels"].evidence == {"rows": 1}


def test_constant_features():
    x = rows()
    x[:, 2] = 7.0 / 2
    assert only(look(SMALL, x), "constant", "note").evidence == {
        "features": 1,
        "of": 4,
    }
    x[:, :3] = 1.0
    assert not only(look(SMALL, x), "constant", "warning").evidence["features"] < 3
    only(look(SMALL, np.ones((ROWS, 4))), "constant")


def test_unscaled_features():
    x = rows()
    x[:, 3] = x[:, 3] * 900 + 2000
    found = only(look(SMALL, x), "unscaled", "warning")
    assert found.evidence["mean"] == pytest.approx(x[:, 3].mean(), rel=1e-4)
    assert "feature 3" in found.text
    assert "Normalization" in found.fix


@pytest.mark.parametrize("scaling", [None, "Rescaling", "BatchNormalization", "ops"])
def test_pixels(scaling):
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 6, 1)).astype("uint8")
    inputs = keras.Input((6, 6, 1))
    x = layers.RandomFlip()(inputs)
    if scaling == "ops":
        x = x / 255.0
    elif scaling:
        x = getattr(layers, scaling)(*[1 / 255] * (scaling == "Rescaling"))(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(x))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    found = kf.check(model, (images[:150], labels(150)), (images[150:], labels(50)))
    if scaling:
        assert found.findings == ()
    else:
        assert "Rescaling(1 / 255)" in only(found, "unscaled", "warning").fix


def test_tokens_are_not_numbers_to_scale():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(900, 4)(inputs))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    tokens = np.random.default_rng(0).integers(0, 900, (ROWS, 5))
    assert kf.check(model, (tokens[:150], labels(150)), (tokens[150:], labels(50))).ok
    tokens[199, 2] = 900
    found = kf.check(model, (tokens[:150], labels(150)), (tokens[150:], labels(50)))
    assert "has rows 0 to 899" in only(found, "tokens").text


def test_rows_in_both_parts():
    x, y = rows(), labels()
    other = np.concatenate([x[:10], rows(40, seed=2)])
    found = only(kf.check(SMALL, (x, y), (other, labels(50))), "duplicates")
    assert found.evidence["share"] == 0.2  # 10 of 50
    # float64 copies are the same rows, and one in 200 is a warning
    many = np.concatenate([x[:1], rows(199, seed=2)]).astype("float64")
    only(kf.check(SMALL, (x, y), (many, y)), "duplicates", "warning")


def test_rows_of_few_values_repeat_by_themselves():
    drawn = np.random.default_rng(0).integers(0, 3, (900, 4)).astype("float32")
    found = kf.check(SMALL, (drawn[:600], labels(600)), (drawn[600:], labels(300)))
    assert only(found, "duplicates", "note").evidence["within_training"] > 0.9


def test_training_data_as_validation():
    x, y = rows(), labels()
    pair = (x, y)
    for validation in (pair, (x.copy(), y), (x[20:150], y[20:150])):
        only(kf.check(SMALL, pair, validation), "evaluated on training")


def test_no_validation_data():
    found = only(look(SMALL, validation=False), "no validation", "warning")
    assert "train_test_split" in found.fix


def test_imbalance_against_accuracy():
    y = (labels(classes=20) == 0).astype(int)
    common = {"loss": "binary_crossentropy"}
    model = net(layers.Dense(1, "sigmoid"), metrics=["accuracy"], **common)
    found = only(look(model, y=y), "imbalance", "warning")
    assert found.evidence["share"] == 0.95
    assert "class_weight={0: 0.53, 1: 10.0}" in found.fix  # 200 / (2 * 190), / (2 * 10)
    for metrics in ([keras.metrics.AUC()], ["accuracy", keras.metrics.AUC()]):
        model = net(layers.Dense(1, "sigmoid"), metrics=metrics, **common)
        assert look(model, y=y).ok  # the advice is followed


def test_a_rare_class_among_many():
    y = np.where(labels(classes=100) == 0, 2, labels(classes=2))
    only(look(classes(metrics=["accuracy"]), y=y), "imbalance", "note")


@pytest.mark.parametrize(
    "last",
    [
        [layers.Dense(3, "softmax"), layers.Dropout(0.2, name="late")],
        [layers.Dense(3), layers.Dropout(0.2, name="late"), layers.Softmax()],
    ],
)
def test_dropout_after_the_head(last):
    model = net(*last, loss="sparse_categorical_crossentropy")
    assert only(look(model), "dropout at the end").evidence["layer"] == "late"


def test_nothing_that_learns():
    model = classes()
    model.trainable = False
    only(look(model), "nothing learns")
    model = classes()
    model.get_layer("head").kernel.assign(np.full((5, 3), np.nan))
    assert "NaN" in look(model).of("nothing learns")[0].text


def test_several_inputs_and_outputs():
    one, two = keras.Input((4,), name="one"), keras.Input((2,), name="two")
    x = layers.Dense(4, "relu")(layers.Concatenate()([one, two]))
    model = keras.Model(
        {"one": one, "two": two},
        {"kind": layers.Dense(3, name="kind")(x), "size": layers.Dense(1)(x)},
    )
    loss = {"kind": losses.SparseCategoricalCrossentropy(), "size": "mse"}
    model.compile("sgd", loss)

    def part(count, seed):
        x = {"one": rows(count, 4, seed), "two": rows(count, 2, seed) * 50}
        return x, {"kind": labels(count), "size": rows(count, 1, seed)}

    report = kf.check(model, part(200, 0), part(50, 1))
    found = {one.rule: one for one in report.findings}
    assert set(found) == {"loss and activation", "unscaled"}
    assert found["loss and activation"].evidence["output"] == "kind"
    assert "'two'" in found["unscaled"].text


def test_data_sets_of_every_kind():
    import tensorflow as tf

    x, y = rows() * 50, labels()

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return x[index * 20 : index * 20 + 20], y[index * 20 : index * 20 + 20]

    other = (x[:50] + 1e-3, labels(50))
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    for data in (dataset, Data(), [x, y], (x, y, np.ones(ROWS))):
        report = kf.check(SMALL, data, other)
        assert only(report, "unscaled", "warning")
        assert report.rows == ROWS


def test_a_generator_is_left_alone():
    stream = ((rows(20), labels(20)) for _ in range(3))
    report = kf.check(SMALL, stream, (rows(50), labels(50)))
    assert "its rows would be gone" in report.unchecked["unscaled"]
    assert len(list(stream)) == 3
    assert report.rows == 0


def test_what_cannot_be_read_is_listed_and_raises_nothing():
    unbuilt = keras.Sequential([layers.Dense(2)])
    for data in (None, 3, "data.csv", (rows(), labels())):
        report = kf.check(unbuilt, data)
        assert "not compiled" in report.unchecked["loss and activation"]
        assert not unbuilt.built
    uneven = kf.check(SMALL, (rows(), labels(10)), (rows(50), labels(50)))
    assert "lengths [10, 200]" in uneven.of("data")[0].text

    class Broken(keras.Model):
        def call(self, inputs):
            raise RuntimeError("no")

    model = Broken()
    model.built = True
    model.compile("sgd", losses.BinaryCrossentropy())
    assert "not known" in look(model).unchecked["loss and activation"]


def test_random_states_stay():
    keras.utils.set_random_seed(1)
    expected = np.random.random(3), keras.random.uniform((3,))
    keras.utils.set_random_seed(1)
    look(classes())
    keras.utils.set_random_seed(1)
    look(SMALL)
    np.testing.assert_array_equal(np.random.random(3), expected[0])


def test_the_report_as_text_table_and_page():
    model = classes(activation=None)
    x = rows()
    x[:, 0] *= 100
    report = look(model, x, validation=False)
    assert not report
    assert report.summary.startswith("1 error, 2 warnings; 200 training rows")
    assert [one.severity for one in report.findings] == ["error", "warning", "warning"]
    assert "    fix keras.losses.SparseCategoricalCrossentropy" in report.render()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    page = report._repr_html_()
    assert "<td>error</td>" in page
    where = io.StringIO()
    Console(file=where, width=120).print(report)
    assert "loss and activation" in where.getvalue()


def test_the_page_is_escaped():
    finding = kf.regularizers.Finding("<b>", "error", "<script>", "a < b")
    page = kf.CheckReport((finding,), {"<i>": "<u>"})._repr_html_()
    for bad in ("<script>", "<i>", "<u>", "a < b"):
        assert bad not in page
