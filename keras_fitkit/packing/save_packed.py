"""`save_packed` and `packed_size`: a model as a small file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments, layers
from keras_fitkit._core.files import atomic_path
from keras_fitkit.packing import container, entropy, keras_archive
from keras_fitkit.packing.size import PackedSize, TensorSize


def save_packed(
    model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = True
) -> PackedSize:
    """Writes a model to a file in which zeros, codebooks and grids take few bytes.

    `load_packed` gives it back: the same architecture, the same weights bit for bit,
    the same predictions. The weights of each layer are entropy-coded by what suits them
    best, found by trying: positions of zeros and the rest; indices into a codebook of
    values that occur often; integers times a scale for each channel, with the scales; a
    float's exponent and mantissa apart; or plain bytes. What is lossy (pruning,
    clustering, quantizing) is done to the model before.

    Everything that a `.keras` file keeps is kept, assets and the arguments of `compile`
    too, but not the state of the optimizer: `.keras` is the file to train on from. The
    same model gives the same bytes. The file is whole or not there.

    Args:
        model: a built model whose custom classes have a `get_config`.
        path: of the file, in a folder that exists; ".kfz" is the usual ending.
        overwrite: whether a file that is there is replaced.

    Returns:
        What each tensor takes, a `PackedSize`.

    Raises:
        TypeError: `model` is no Keras model, or `path` no path.
        ValueError: the model was never built, or keeps state that is no array of
            numbers; the folder of `path` does not exist.
        FileExistsError: the file is there and `overwrite` is False.
        ImportError: constriction is missing.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> layers = [keras.Input((100,)), keras.layers.Dense(50, name="dense")]
        >>> model = keras.Sequential(layers)
        >>> kernel = model.layers[0].kernel
        >>> signs = np.sign(keras.ops.convert_to_numpy(kernel.value))
        >>> _ = kernel.assign(0.1 * signs)
        >>> size = kf.save_packed(model, "model.kfz")
        >>> size.ratio > 10  # a bit for a weight, not 32, and a description
        True
        >>> again = kf.load_packed("model.kfz")
        >>> np.array_equal(model.get_weights()[0], again.get_weights()[0])
        True

    Reference:
        Han, Mao and Dally, "Deep Compression", 2016, arXiv:1510.00149, section 4, for
        the idea of coding positions and indices; Bamler, "Understanding Entropy Coding
        With Asymmetric Numeral Systems (ANS)", 2022, arXiv:2201.01741, for the coder.
    """
    entropy.coder()
    layers.check_keras_model("model", model, built=True)
    target = arguments.path("path", path)
    if not arguments.flag("overwrite", overwrite) and target.exists():
        raise FileExistsError(
            arguments.message(
                "path", "a new file, as `overwrite` is False", str(target)
            )
        )
    data, size = _packed(model)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return size


def packed_size(model: keras.Model) -> PackedSize:
    """The size that `save_packed` would give a model, without a file.

    Args:
        model: a built model whose custom classes have a `get_config`.

    Returns:
        What the file and each tensor take, a `PackedSize`.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: it was never built, or keeps state that is no array of numbers.
        ImportError: constriction is missing.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> layers = [keras.Input((64,)), keras.layers.Dense(10, name="dense")]
        >>> model = keras.Sequential(layers)
        >>> model.set_weights([np.zeros(one.shape) for one in model.get_weights()])
        >>> size = kf.packed_size(model)
        >>> [one.way for one in size.tensors]
        ['one value', 'one value']
        >>> size.weights_bytes < 20
        True
    """
    entropy.coder()
    layers.check_keras_model("model", model, built=True)
    return _packed(model)[1]


def _packed(model: Any) -> tuple[bytes, PackedSize]:
    content = keras_archive.taken_apart(model)
    data, coded = container.encode(content)
    rows = (
        TensorSize(
            name=one.name.replace("/vars/", "/"),
            shape=tuple(one.array.shape),
            dtype=one.dtype.name,
            bytes=int(one.array.nbytes),
            packed_bytes=how.coded,
            entropy_bytes=how.bits / 8,
            way=how.way,
        )
        for one, how in zip(content.tensors, coded, strict=True)
    )
    floats = [
        one.name.replace("/vars/", "/")
        for one, how in zip(content.tensors, coded, strict=True)
        if one.scales is not None and "grid" not in how.way
    ]
    return data, PackedSize(len(data), tuple(rows), _notes(floats))


def _notes(found: Sequence[str]) -> tuple[str, ...]:
    """Of weights whose layer tells of a grid, and that are not on it."""
    if not found:
        return ()
    return (
        f"{len(found)} tensors are in training for a grid, such as {found[0]}, and "
        "packed as the floats that are trained. Small is what "
        "kf.strip_quantization(model) makes of it.",
    )
