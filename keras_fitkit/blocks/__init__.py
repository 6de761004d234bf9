"""Compact blocks: small, fast layers, each also as a function of plain layers."""

from keras_fitkit.blocks import nets as nets
from keras_fitkit.blocks.attention import (
    EfficientChannelAttention as EfficientChannelAttention,
)
from keras_fitkit.blocks.attention import SqueezeExcite as SqueezeExcite
from keras_fitkit.blocks.attention import (
    efficient_channel_attention as efficient_channel_attention,
)
from keras_fitkit.blocks.attention import squeeze_excite as squeeze_excite
from keras_fitkit.blocks.channels import ChannelShuffle as ChannelShuffle
from keras_fitkit.blocks.channels import ChannelSlice as ChannelSlice
from keras_fitkit.blocks.convolution import ConvNormAct as ConvNormAct
from keras_fitkit.blocks.convolution import SeparableBlock as SeparableBlock
from keras_fitkit.blocks.convolution import conv_norm_act as conv_norm_act
from keras_fitkit.blocks.convolution import separable_block as separable_block
from keras_fitkit.blocks.expanding import expand as expand
from keras_fitkit.blocks.expanding import replace_grouped_conv as replace_grouped_conv
from keras_fitkit.blocks.factorization_report import (
    FactorizationReport as FactorizationReport,
)
from keras_fitkit.blocks.factorization_report import FactorizedLayer as FactorizedLayer
from keras_fitkit.blocks.factorizing import factorize as factorize
from keras_fitkit.blocks.fused import FusedMBConv as FusedMBConv
from keras_fitkit.blocks.fused import fused_mb_conv as fused_mb_conv
from keras_fitkit.blocks.fusing import fuse as fuse
from keras_fitkit.blocks.ghost import GhostBottleneck as GhostBottleneck
from keras_fitkit.blocks.ghost import GhostModule as GhostModule
from keras_fitkit.blocks.ghost import ghost_bottleneck as ghost_bottleneck
from keras_fitkit.blocks.ghost import ghost_module as ghost_module
from keras_fitkit.blocks.grouped import GroupedConv2D as GroupedConv2D
from keras_fitkit.blocks.grouped import GroupedDense as GroupedDense
from keras_fitkit.blocks.inverted import InvertedResidual as InvertedResidual
from keras_fitkit.blocks.inverted import inverted_residual as inverted_residual
from keras_fitkit.blocks.low_rank import LowRankConv2D as LowRankConv2D
from keras_fitkit.blocks.low_rank import LowRankDense as LowRankDense
from keras_fitkit.blocks.low_rank import low_rank_conv2d as low_rank_conv2d
from keras_fitkit.blocks.low_rank import low_rank_dense as low_rank_dense
from keras_fitkit.blocks.mobileone import MobileOne as MobileOne
from keras_fitkit.blocks.mobileone import mobile_one as mobile_one
from keras_fitkit.blocks.polynomial import PolynomialFeatures as PolynomialFeatures
from keras_fitkit.blocks.rep_vgg import RepConv as RepConv
from keras_fitkit.blocks.rep_vgg import rep_conv as rep_conv
from keras_fitkit.blocks.rewrite_report import LayerChange as LayerChange
from keras_fitkit.blocks.rewrite_report import RewriteReport as RewriteReport
from keras_fitkit.blocks.shared import SharedStack as SharedStack
from keras_fitkit.blocks.shared import shared_stack as shared_stack
from keras_fitkit.blocks.shuffle import ShuffleUnit as ShuffleUnit
from keras_fitkit.blocks.shuffle import shuffle_unit as shuffle_unit
from keras_fitkit.blocks.squeeze_net import Fire as Fire
from keras_fitkit.blocks.squeeze_net import fire as fire
from keras_fitkit.blocks.stochastic_depth import StochasticDepth as StochasticDepth
from keras_fitkit.blocks.universal import (
    UniversalInvertedBottleneck as UniversalInvertedBottleneck,
)
from keras_fitkit.blocks.universal import (
    universal_inverted_bottleneck as universal_inverted_bottleneck,
)

__all__ = [
    "ChannelShuffle",
    "ChannelSlice",
    "ConvNormAct",
    "EfficientChannelAttention",
    "FactorizationReport",
    "FactorizedLayer",
    "Fire",
    "FusedMBConv",
    "GhostBottleneck",
    "GhostModule",
    "GroupedConv2D",
    "GroupedDense",
    "InvertedResidual",
    "LayerChange",
    "LowRankConv2D",
    "LowRankDense",
    "MobileOne",
    "PolynomialFeatures",
    "RepConv",
    "RewriteReport",
    "SeparableBlock",
    "SharedStack",
    "ShuffleUnit",
    "SqueezeExcite",
    "StochasticDepth",
    "UniversalInvertedBottleneck",
    "conv_norm_act",
    "efficient_channel_attention",
    "expand",
    "factorize",
    "fire",
    "fuse",
    "fused_mb_conv",
    "ghost_bottleneck",
    "ghost_module",
    "inverted_residual",
    "low_rank_conv2d",
    "low_rank_dense",
    "mobile_one",
    "nets",
    "rep_conv",
    "replace_grouped_conv",
    "separable_block",
    "shared_stack",
    "shuffle_unit",
    "squeeze_excite",
    "universal_inverted_bottleneck",
]
