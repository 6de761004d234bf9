"""LowRankDense and LowRankConv2D: a kernel as the product of two thin ones."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_fitkit._core import arguments, arrays
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments, _svd
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._svd import Matrix
from keras_fitkit.blocks.block import Block, SpatialBlock

SCHEMES = ("channel", "spatial")


@serializable
class LowRankDense(Block):
    """Dense to r numbers without bias, then dense to the units.

    For m inputs and n units r (m + n) weights in place of m n: it saves below the rank
    m n / (m + n). `LowRankDense.from_layer(dense, rank)` takes the kernel of a trained
    layer apart.

    Parameters: r (m + n) + n.

    Args:
        units: n, an integer >= 1.
        rank: r, an integer from 1 to min(m, n).
        activation: a name in `keras.activations`, a function, or None. Defaults to
            None.
        use_bias: whether there is a bias at the end. Defaults to True.
        kernel_initializer: of both kernels. Defaults to "glorot_uniform".
        kernel_regularizer: of both kernels. Defaults to None.
        kwargs: `name`, `dtype` and `trainable`, as for every layer.

    Input shape:
        (batch, ..., m).

    Output shape:
        (batch, ..., units).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a rank above the
            inputs.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.LowRankDense(10, rank=4)
        >>> layer(keras.Input((16,))).shape
        (None, 10)
        >>> layer.count_params() == 4 * (16 + 10) + 10
        True
    """

    def __init__(
        self,
        units: int,
        rank: int,
        *,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = arguments.integer("units", units, low=1)
        hint = f"The kernel has {units} columns."
        self.rank = arguments.integer("rank", rank, low=1, high=self.units, hint=hint)
        self.activation = _arguments.activation("activation", activation)
        self.use_bias = arguments.flag("use_bias", use_bias)
        self.kernel_initializer = _arguments.initializer(
            "kernel_initializer", kernel_initializer
        )
        self.kernel_regularizer = _arguments.regularizer(
            "kernel_regularizer", kernel_regularizer
        )
        self.supports_masking = True
        self.input_spec = keras.InputSpec(min_ndim=2)

    @classmethod
    def from_layer(cls, layer: Any, rank: int, **kwargs: Any) -> LowRankDense:
        """The best layer of this rank in place of a dense one, by its SVD.

        Args:
            layer: a built `keras.layers.Dense`.
            rank: an integer from 1 to the smaller side of the kernel.
            kwargs: other arguments of the new layer.

        Returns:
            A built layer. Of all kernels of this rank its own has the least sum of
            squared differences to the given one; with full rank it is the same.

        Raises:
            TypeError, ValueError: no built Dense layer, or an argument outside its
                range, by name.
        """
        _check_source(layer, layers.Dense, "keras.layers.Dense")
        kernel = arrays.to_numpy(layer.kernel)
        rank = arguments.integer("rank", rank, low=1, high=min(kernel.shape))
        given = {"activation": layer.activation, "use_bias": layer.use_bias}
        given["dtype"] = layer.dtype_policy
        made = cls(layer.units, rank, **{**given, **kwargs})
        made.build(layer.get_build_config()["input_shape"])
        made.set_weights([*factors(kernel, rank), *_bias(layer)])
        return made

    def plan(self, channels: int) -> Plan:
        """The plain layers for so many inputs."""
        _check_rank(self, min(channels, self.units))
        plan, own = Plan(), _kernel_arguments(self)
        x = plan.add("down", layers.Dense, 0, units=self.rank, use_bias=False, **own)
        last = {"units": self.units, "use_bias": self.use_bias, **own}
        plan.add("up", layers.Dense, x, activation=self.activation, **last)
        return plan


@serializable
class LowRankConv2D(SpatialBlock):
    """A convolution as two thinner ones with r channels between them.

    - "channel": k x k to r channels, then 1x1 to N. It saves below the rank
      k^2 C N / (k^2 C + N).
    - "spatial": k x 1 to r channels, then 1 x k to N. Jaderberg et al., "Speeding up
      Convolutional Neural Networks with Low Rank Expansions", 2014, arXiv:1405.3866.

    The first convolution has no bias, and there is nothing between the two.
    `LowRankConv2D.from_layer(conv, rank)` takes the kernel of a trained layer apart.

    Parameters: "channel" r (k^2 C + N) + N, "spatial" r k (C + N) + N.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1, or two of them.
        rank: r, from 1 to min(k^2 C, N), or min(k C, k N) with "spatial".
        scheme: "channel" or "spatial". Defaults to "channel".
        strides: an integer >= 1, or two of them. Defaults to 1.
        padding: "same" or "valid". Defaults to "same".
        activation: a name in `keras.activations`, a function, or None. Defaults to
            None.
        use_bias: whether there is a bias at the end. Defaults to True.
        kwargs: `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`,
            `dtype` and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        As that of `keras.layers.Conv2D`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a rank above the
            full one.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.LowRankConv2D(16, 3, rank=4)
        >>> layer(keras.Input((8, 8, 8))).shape
        (None, 8, 8, 16)
        >>> layer.count_params() == 4 * (3**2 * 8 + 16) + 16
        True
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        rank: int,
        *,
        scheme: str = "channel",
        strides: Any = 1,
        padding: str = "same",
        activation: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_bias=use_bias, **kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.pair("kernel_size", kernel_size)
        self.scheme = arguments.choice("scheme", scheme, SCHEMES)
        columns = self.filters * (self.kernel_size[1] if scheme == "spatial" else 1)
        hint = f"The kernel has {columns} columns in scheme '{scheme}'."
        self.rank = arguments.integer("rank", rank, low=1, high=columns, hint=hint)
        self.strides = _arguments.pair("strides", strides)
        self.padding = arguments.choice("padding", padding, ("same", "valid"))
        self.activation = _arguments.activation("activation", activation)

    @classmethod
    def from_layer(cls, layer: Any, rank: int, **kwargs: Any) -> LowRankConv2D:
        """The best layer of this rank in place of a convolution, by its SVD.

        Args:
            layer: a built `keras.layers.Conv2D` with `groups=1` and `dilation_rate=1`.
            rank: an integer from 1 to the full rank.
            kwargs: other arguments of the new layer, such as `scheme`.

        Returns:
            A built layer. Of all kernels of this rank and scheme its own has the least
            sum of squared differences to the given one.

        Raises:
            TypeError, ValueError: no built Conv2D layer of that kind, or an argument
                outside its range, by name.
        """
        _check_source(layer, layers.Conv2D, "keras.layers.Conv2D")
        if layer.groups != 1 or layer.dilation_rate != (1, 1):
            allowed = "a Conv2D with groups=1 and dilation_rate=1"
            raise ValueError(arguments.message("layer", allowed, layer))
        given = {"data_format": layer.data_format, "dtype": layer.dtype_policy}
        for name in ("strides", "padding", "activation", "use_bias"):
            given[name] = getattr(layer, name)
        made = cls(layer.filters, layer.kernel_size, rank, **{**given, **kwargs})
        made.build(layer.get_build_config()["input_shape"])
        kernel = arrays.to_numpy(layer.kernel)
        down, up = conv_factors(kernel, made.rank, made.scheme)
        made.set_weights([down, up, *_bias(layer)])
        return made

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, (height, width) = self.new_plan(), self.kernel_size
        down, right = self.strides
        first: dict[str, Any] = {"strides": self.strides}
        second: dict[str, Any] = {"strides": 1}
        sizes: tuple[tuple[int, int], tuple[int, int]] = ((height, width), (1, 1))
        rows, columns = height * width * channels, self.filters
        if self.scheme == "spatial":
            first, second = {"strides": (down, 1)}, {"strides": (1, right)}
            sizes = ((height, 1), (1, width))
            rows, columns = height * channels, width * self.filters
        _check_rank(self, min(rows, columns))
        own = {"padding": self.padding}
        x = plan.conv("down", 0, self.rank, sizes[0], use_bias=False, **own, **first)
        x = plan.conv("up", x, self.filters, sizes[1], **own, **second)
        plan.act("act", x, self.activation)
        return plan


def factors(matrix: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The best two matrices (m, rank) and (rank, n) for an (m, n) one.

    From the singular value decomposition, the square roots of the singular values on
    both sides, so that both have the same scale.
    """
    down, up = _svd.decompose(matrix).factors(rank)
    return down.astype(matrix.dtype), up.astype(matrix.dtype)


def conv_factors(kernel: Matrix, rank: int, scheme: str) -> tuple[Matrix, Matrix]:
    """Two kernels whose composition is nearest to a (height, width, in, out) one."""
    pair = factors(conv_matrix(kernel, scheme), rank)
    return conv_kernels(kernel.shape, scheme, *pair)


def conv_matrix(kernel: Matrix, scheme: str) -> Matrix:
    """The kernel as the matrix that a scheme takes apart."""
    height, width, inputs, outputs = kernel.shape
    if scheme == "channel":
        return kernel.reshape(-1, outputs)
    return kernel.transpose(0, 2, 1, 3).reshape(height * inputs, width * outputs)


def conv_kernels(
    shape: tuple[int, ...], scheme: str, down: Matrix, up: Matrix
) -> tuple[Matrix, Matrix]:
    """The two kernels of a scheme from the factors of its matrix."""
    height, width, inputs, outputs = shape
    rank = down.shape[1]
    if scheme == "channel":
        return down.reshape(height, width, inputs, rank), up[None, None]
    first = down.reshape(height, 1, inputs, rank)
    return first, up.reshape(rank, width, outputs).transpose(1, 0, 2)[None]


def _bias(layer: Any) -> list[Matrix]:
    return [arrays.to_numpy(layer.bias)] if layer.use_bias else []


def _check_rank(layer: Any, full: int) -> None:
    if layer.rank > full:
        allowed = f"at most the full rank {full}"
        text = arguments.message("rank", allowed, layer.rank)
        raise ValueError(f"Layer '{layer.name}': {text}")


def _check_source(layer: Any, kind: type[Any], name: str) -> None:
    if not isinstance(layer, kind):
        raise TypeError(arguments.message("layer", f"a built {name}", layer))
    if not layer.built:
        raise ValueError(arguments.message("layer", f"a built {name}", layer))


def _kernel_arguments(layer: LowRankDense) -> dict[str, Any]:
    regularizer = layer.kernel_regularizer
    return {
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
        "kernel_regularizer": None
        if regularizer is None
        else keras.regularizers.serialize(regularizer),
    }


low_rank_dense = functional(LowRankDense, "keras.Input((16,)), 10, rank=4")
low_rank_conv2d = functional(LowRankConv2D, "keras.Input((8, 8, 16)), 24, 3, rank=4")
