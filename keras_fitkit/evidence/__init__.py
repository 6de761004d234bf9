"""Evidence by trial: cross-validation, learning curves, remedies that are measured."""

from keras_fitkit.evidence.cross_validating import cross_validate as cross_validate
from keras_fitkit.evidence.cross_validation_report import (
    CrossValidationReport as CrossValidationReport,
)
from keras_fitkit.evidence.cross_validation_report import FoldResult as FoldResult
from keras_fitkit.evidence.intervals import Estimate as Estimate
from keras_fitkit.evidence.learning import learning_curve as learning_curve
from keras_fitkit.evidence.learning_report import (
    LearningCurveReport as LearningCurveReport,
)
from keras_fitkit.evidence.learning_report import SizePoint as SizePoint
from keras_fitkit.evidence.learning_report import SizeRun as SizeRun
from keras_fitkit.evidence.membership import MembershipReport as MembershipReport
from keras_fitkit.evidence.membership import membership_auc as membership_auc
from keras_fitkit.evidence.remedy_report import RemedyReport as RemedyReport
from keras_fitkit.evidence.remedy_report import RemedyTrial as RemedyTrial
from keras_fitkit.evidence.trying import try_remedies as try_remedies

__all__ = [
    "CrossValidationReport",
    "Estimate",
    "FoldResult",
    "LearningCurveReport",
    "MembershipReport",
    "RemedyReport",
    "RemedyTrial",
    "SizePoint",
    "SizeRun",
    "cross_validate",
    "learning_curve",
    "membership_auc",
    "try_remedies",
]
