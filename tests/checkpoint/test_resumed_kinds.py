"""A resume with every kind of optimizer and step."""

import keras
import pytest

from tests.checkpoint.models import assert_same, build, interrupted, ours, train

NOT_TORCH = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on torch runs single steps"
)


@pytest.mark.parametrize("name", ["accumulation", "average", "loss scale"])
def test_every_kind_of_optimizer(tmp_path, name):
    def model():
        policy = "mixed_float16" if name == "loss scale" else None
        return build(name, policy)

    whole = train(tmp_path / "whole", list, model(), epochs=3)
    again = interrupted(tmp_path / "again", list, (8,), model=model, epochs=3)
    assert_same(whole, again)


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_that_are_swapped_in(tmp_path, swap_on_epoch):
    def make():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)]

    def model():
        return build("average")

    whole = train(tmp_path / "whole", make, model(), epochs=4)
    again = interrupted(tmp_path / "again", make, (13,), model=model, epochs=4)
    assert_same(whole, again)


COMPILED = {
    "eagerly": {"run_eagerly": True},
    "several steps": {"steps_per_execution": 2},
}


@NOT_TORCH
@pytest.mark.parametrize("name", COMPILED)
def test_however_it_is_compiled(tmp_path, name):
    def model():
        return build(**COMPILED[name], fresh=True)

    whole = train(tmp_path / "whole", ours, model(), epochs=3)
    again = interrupted(tmp_path / "again", ours, (4,), model=model, epochs=3)
    assert_same(whole, again)
