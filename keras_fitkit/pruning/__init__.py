"""Pruning: weights set to zero during a `fit`, and channels that are really gone."""

from keras_fitkit.pruning.prune_schedule import PruneSchedule as PruneSchedule
from keras_fitkit.pruning.schedules import CosineSparsity as CosineSparsity
from keras_fitkit.pruning.schedules import IterativeSparsity as IterativeSparsity
from keras_fitkit.pruning.schedules import OneShotSparsity as OneShotSparsity
from keras_fitkit.pruning.scores import ScoreContext as ScoreContext
from keras_fitkit.pruning.sparsity_report import SparsityReport as SparsityReport
from keras_fitkit.pruning.sparsity_report import WeightSparsity as WeightSparsity
from keras_fitkit.pruning.sparsity_report import sparsity_of as sparsity_of
from keras_fitkit.pruning.structural.channel_groups import ChannelGroup as ChannelGroup
from keras_fitkit.pruning.structural.channel_groups import (
    ChannelGroups as ChannelGroups,
)
from keras_fitkit.pruning.structural.channel_groups import (
    FrozenChannels as FrozenChannels,
)
from keras_fitkit.pruning.structural.channel_groups import (
    channel_groups as channel_groups,
)
from keras_fitkit.pruning.structural.drop_layers import drop_layers as drop_layers
from keras_fitkit.pruning.structural.drop_report import Droppable as Droppable
from keras_fitkit.pruning.structural.drop_report import DropReport as DropReport
from keras_fitkit.pruning.structural.importance import ChannelContext as ChannelContext
from keras_fitkit.pruning.structural.shrink import shrink as shrink
from keras_fitkit.pruning.structural.shrink_report import ShrinkReport as ShrinkReport
from keras_fitkit.pruning.structural.shrink_report import ShrunkLayer as ShrunkLayer
from keras_fitkit.pruning.structural.widen import widen as widen

__all__ = [
    "ChannelContext",
    "ChannelGroup",
    "ChannelGroups",
    "CosineSparsity",
    "DropReport",
    "Droppable",
    "FrozenChannels",
    "IterativeSparsity",
    "OneShotSparsity",
    "PruneSchedule",
    "ScoreContext",
    "ShrinkReport",
    "ShrunkLayer",
    "SparsityReport",
    "WeightSparsity",
    "channel_groups",
    "drop_layers",
    "shrink",
    "sparsity_of",
    "widen",
]
