"""Distillation: a student that learns from a teacher in an ordinary `fit`."""

from keras_fitkit.distillation.attention_transfer import (
    AttentionTransfer as AttentionTransfer,
)
from keras_fitkit.distillation.cache import TeacherCache as TeacherCache
from keras_fitkit.distillation.cache_teacher import cache_teacher as cache_teacher
from keras_fitkit.distillation.contrastive_distillation import (
    ContrastiveDistillation as ContrastiveDistillation,
)
from keras_fitkit.distillation.decoupled_distillation import (
    DecoupledDistillation as DecoupledDistillation,
)
from keras_fitkit.distillation.dist import DIST as DIST
from keras_fitkit.distillation.distillation_loss import (
    DistillationLoss as DistillationLoss,
)
from keras_fitkit.distillation.distillation_loss import OutputSpec as OutputSpec
from keras_fitkit.distillation.distiller import Distiller as Distiller
from keras_fitkit.distillation.feature_distillation import (
    FeatureDistillation as FeatureDistillation,
)
from keras_fitkit.distillation.logits_distillation import (
    LogitsDistillation as LogitsDistillation,
)
from keras_fitkit.distillation.network import ModelOutputs as ModelOutputs
from keras_fitkit.distillation.relational_distillation import (
    RelationalDistillation as RelationalDistillation,
)
from keras_fitkit.distillation.similarity_preserving import (
    SimilarityPreserving as SimilarityPreserving,
)

__all__ = [  # noqa: RUF022 - the order of `sorted`, as everywhere here
    "AttentionTransfer",
    "ContrastiveDistillation",
    "DIST",
    "DecoupledDistillation",
    "DistillationLoss",
    "Distiller",
    "FeatureDistillation",
    "LogitsDistillation",
    "ModelOutputs",
    "OutputSpec",
    "RelationalDistillation",
    "SimilarityPreserving",
    "TeacherCache",
    "cache_teacher",
]
