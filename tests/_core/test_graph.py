"""What leads from a model's outputs back to its calls."""

import keras

from keras_fitkit._core import graph


def test_a_tensor_leads_back_to_the_call_it_comes_from():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2, name="dense")(inputs)
    model = keras.Model(inputs, keras.ops.softmax(hidden))
    calls = graph.graph_of(model)
    node = calls.producer(model.outputs[0])
    assert type(node.operation).__name__ == "Softmax"
    assert node.inputs[0] is hidden
    assert calls.producer(hidden).operation.name == "dense"
    assert calls.producer(inputs) is None


def test_the_structure_of_the_outputs_has_their_keys():
    inputs = keras.Input((3,))
    outputs = {"b": keras.layers.Dense(1)(inputs), "a": keras.layers.Dense(2)(inputs)}
    model = keras.Model(inputs, outputs)
    found = graph.output_structure(model)
    assert sorted(found) == ["a", "b"]
    assert found["a"] is model.outputs[0], "flat outputs are in the order of the keys"
    sequential = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert graph.output_structure(sequential) is sequential.outputs[0]


def test_a_value_is_dropped_after_the_last_call_that_takes_it():
    inputs = keras.Input((3,))
    first = keras.layers.Dense(3, name="first")(inputs)
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="in")])
    second = inner(first)
    added = keras.layers.Add(name="added")([first, second])
    model = keras.Model(inputs, [keras.layers.Dense(2, name="last")(added), second])
    seen = []

    def visit(path, node, values):
        seen.append((node.operation.name, len(values)))
        return [sum(values[id(one)] for one in node.inputs) + 1]

    # input 0, first 1, in 2, added 1 + 2 + 1, last 5; the second output is in's 2.
    assert graph.walk(model, [0], visit) == [5, 2]
    assert seen == [("first", 1), ("in", 1), ("added", 2), ("last", 2)]
