"""keras_fitkit: watch, regularize and compress Keras 3 models in an ordinary `fit`.

The public names are these; everything else may change without notice.
"""

from keras_fitkit import blocks as blocks
from keras_fitkit import checkpoint as checkpoint
from keras_fitkit import distillation as distillation
from keras_fitkit import evidence as evidence
from keras_fitkit import monitoring as monitoring
from keras_fitkit import packing as packing
from keras_fitkit import pruning as pruning
from keras_fitkit import quantization as quantization
from keras_fitkit import regularizers as regularizers
from keras_fitkit import report as report
from keras_fitkit._core.count_macs import count_macs as count_macs
from keras_fitkit._core.hyperparameter_schedule import (
    HyperparameterSchedule as HyperparameterSchedule,
)
from keras_fitkit._core.macs_report import LayerMacs as LayerMacs
from keras_fitkit._core.macs_report import MacsReport as MacsReport
from keras_fitkit._core.schedules import ConstantSparsity as ConstantSparsity
from keras_fitkit._core.schedules import PolynomialSparsity as PolynomialSparsity
from keras_fitkit._core.schedules import SparsitySchedule as SparsitySchedule
from keras_fitkit.blocks import FactorizationReport as FactorizationReport
from keras_fitkit.blocks import RewriteReport as RewriteReport
from keras_fitkit.blocks import expand as expand
from keras_fitkit.blocks import factorize as factorize
from keras_fitkit.blocks import fuse as fuse
from keras_fitkit.blocks import replace_grouped_conv as replace_grouped_conv
from keras_fitkit.checkpoint import Checkpoint as Checkpoint
from keras_fitkit.checkpoint import ReproducibleDataset as ReproducibleDataset
from keras_fitkit.checkpoint import resumable as resumable
from keras_fitkit.distillation import Distiller as Distiller
from keras_fitkit.distillation import cache_teacher as cache_teacher
from keras_fitkit.evidence import CrossValidationReport as CrossValidationReport
from keras_fitkit.evidence import LearningCurveReport as LearningCurveReport
from keras_fitkit.evidence import MembershipReport as MembershipReport
from keras_fitkit.evidence import RemedyReport as RemedyReport
from keras_fitkit.evidence import cross_validate as cross_validate
from keras_fitkit.evidence import learning_curve as learning_curve
from keras_fitkit.evidence import membership_auc as membership_auc
from keras_fitkit.evidence import try_remedies as try_remedies
from keras_fitkit.monitoring import Diagnosis as Diagnosis
from keras_fitkit.monitoring import EarlyStopping as EarlyStopping
from keras_fitkit.monitoring import OverfitMonitor as OverfitMonitor
from keras_fitkit.monitoring import OverfittingWarning as OverfittingWarning
from keras_fitkit.monitoring import StoppingReport as StoppingReport
from keras_fitkit.monitoring import diagnose as diagnose
from keras_fitkit.packing import PackedFileError as PackedFileError
from keras_fitkit.packing import PackedSize as PackedSize
from keras_fitkit.packing import load_packed as load_packed
from keras_fitkit.packing import packed_size as packed_size
from keras_fitkit.packing import save_packed as save_packed
from keras_fitkit.pruning import ChannelGroups as ChannelGroups
from keras_fitkit.pruning import CosineSparsity as CosineSparsity
from keras_fitkit.pruning import DropReport as DropReport
from keras_fitkit.pruning import IterativeSparsity as IterativeSparsity
from keras_fitkit.pruning import OneShotSparsity as OneShotSparsity
from keras_fitkit.pruning import PruneSchedule as PruneSchedule
from keras_fitkit.pruning import ShrinkReport as ShrinkReport
from keras_fitkit.pruning import SparsityReport as SparsityReport
from keras_fitkit.pruning import channel_groups as channel_groups
from keras_fitkit.pruning import drop_layers as drop_layers
from keras_fitkit.pruning import shrink as shrink
from keras_fitkit.pruning import sparsity_of as sparsity_of
from keras_fitkit.pruning import widen as widen
from keras_fitkit.quantization import BitAssignment as BitAssignment
from keras_fitkit.quantization import BitSensitivity as BitSensitivity
from keras_fitkit.quantization import CalibrationReport as CalibrationReport
from keras_fitkit.quantization import ClusterWeights as ClusterWeights
from keras_fitkit.quantization import ExportReport as ExportReport
from keras_fitkit.quantization import QuantizeConfig as QuantizeConfig
from keras_fitkit.quantization import QuantizeWrapper as QuantizeWrapper
from keras_fitkit.quantization import assign_bits as assign_bits
from keras_fitkit.quantization import bit_sensitivity as bit_sensitivity
from keras_fitkit.quantization import calibrate as calibrate
from keras_fitkit.quantization import export_litert as export_litert
from keras_fitkit.quantization import quantize_model as quantize_model
from keras_fitkit.quantization import reestimate_batch_norm as reestimate_batch_norm
from keras_fitkit.quantization import run_litert as run_litert
from keras_fitkit.quantization import strip_quantization as strip_quantization
from keras_fitkit.regularizers import CheckReport as CheckReport
from keras_fitkit.regularizers import RegularizationReport as RegularizationReport
from keras_fitkit.regularizers import augmentation as augmentation
from keras_fitkit.regularizers import check as check
from keras_fitkit.regularizers import (
    exclude_norms_and_biases as exclude_norms_and_biases,
)
from keras_fitkit.regularizers import regularize as regularize
from keras_fitkit.report import Comparison as Comparison
from keras_fitkit.report import CompressionReport as CompressionReport
from keras_fitkit.report import LatencyReport as LatencyReport
from keras_fitkit.report import compare as compare
from keras_fitkit.report import compression_report as compression_report
from keras_fitkit.report import measure_latency as measure_latency

__version__ = "0.1.0"

__all__ = [
    "BitAssignment",
    "BitSensitivity",
    "CalibrationReport",
    "ChannelGroups",
    "CheckReport",
    "Checkpoint",
    "ClusterWeights",
    "Comparison",
    "CompressionReport",
    "ConstantSparsity",
    "CosineSparsity",
    "CrossValidationReport",
    "Diagnosis",
    "Distiller",
    "DropReport",
    "EarlyStopping",
    "ExportReport",
    "FactorizationReport",
    "HyperparameterSchedule",
    "IterativeSparsity",
    "LatencyReport",
    "LayerMacs",
    "LearningCurveReport",
    "MacsReport",
    "MembershipReport",
    "OneShotSparsity",
    "OverfitMonitor",
    "OverfittingWarning",
    "PackedFileError",
    "PackedSize",
    "PolynomialSparsity",
    "PruneSchedule",
    "QuantizeConfig",
    "QuantizeWrapper",
    "RegularizationReport",
    "RemedyReport",
    "ReproducibleDataset",
    "RewriteReport",
    "ShrinkReport",
    "SparsityReport",
    "SparsitySchedule",
    "StoppingReport",
    "assign_bits",
    "augmentation",
    "bit_sensitivity",
    "blocks",
    "cache_teacher",
    "calibrate",
    "channel_groups",
    "check",
    "checkpoint",
    "compare",
    "compression_report",
    "count_macs",
    "cross_validate",
    "diagnose",
    "distillation",
    "drop_layers",
    "evidence",
    "exclude_norms_and_biases",
    "expand",
    "export_litert",
    "factorize",
    "fuse",
    "learning_curve",
    "load_packed",
    "measure_latency",
    "membership_auc",
    "monitoring",
    "packed_size",
    "packing",
    "pruning",
    "quantization",
    "quantize_model",
    "reestimate_batch_norm",
    "regularize",
    "regularizers",
    "replace_grouped_conv",
    "report",
    "resumable",
    "run_litert",
    "save_packed",
    "shrink",
    "sparsity_of",
    "strip_quantization",
    "try_remedies",
    "widen",
]
