"""Pruning: weights set to zero during an ordinary `fit`, on every backend."""

from keras_fitkit.pruning.prune_schedule import PruneSchedule as PruneSchedule
from keras_fitkit.pruning.schedules import CosineSparsity as CosineSparsity
from keras_fitkit.pruning.schedules import IterativeSparsity as IterativeSparsity
from keras_fitkit.pruning.schedules import OneShotSparsity as OneShotSparsity
from keras_fitkit.pruning.scores import ScoreContext as ScoreContext
from keras_fitkit.pruning.sparsity_report import SparsityReport as SparsityReport
from keras_fitkit.pruning.sparsity_report import WeightSparsity as WeightSparsity
from keras_fitkit.pruning.sparsity_report import sparsity_of as sparsity_of

__all__ = [
    "CosineSparsity",
    "IterativeSparsity",
    "OneShotSparsity",
    "PruneSchedule",
    "ScoreContext",
    "SparsityReport",
    "WeightSparsity",
    "sparsity_of",
]
