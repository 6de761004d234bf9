"""Quantization: fake quantizers for training, and LiteRT files that are checked."""

from keras_fitkit.quantization.assign_bits import assign_bits as assign_bits
from keras_fitkit.quantization.batch_norm import (
    reestimate_batch_norm as reestimate_batch_norm,
)
from keras_fitkit.quantization.bit_reports import BitAssignment as BitAssignment
from keras_fitkit.quantization.bit_reports import BitSensitivity as BitSensitivity
from keras_fitkit.quantization.bit_reports import LayerSensitivity as LayerSensitivity
from keras_fitkit.quantization.bit_sensitivity import bit_sensitivity as bit_sensitivity
from keras_fitkit.quantization.calibrate import calibrate as calibrate
from keras_fitkit.quantization.calibration_report import (
    CalibrationReport as CalibrationReport,
)
from keras_fitkit.quantization.calibration_report import (
    LayerCalibration as LayerCalibration,
)
from keras_fitkit.quantization.checker import FellBackToFloat as FellBackToFloat
from keras_fitkit.quantization.cluster_weights import ClusterWeights as ClusterWeights
from keras_fitkit.quantization.config import QuantizeConfig as QuantizeConfig
from keras_fitkit.quantization.export_litert import export_litert as export_litert
from keras_fitkit.quantization.export_report import ExportReport as ExportReport
from keras_fitkit.quantization.export_report import FloatOp as FloatOp
from keras_fitkit.quantization.export_report import LayerError as LayerError
from keras_fitkit.quantization.fake_quantize import FakeQuantize as FakeQuantize
from keras_fitkit.quantization.litert_file import run_litert as run_litert
from keras_fitkit.quantization.quantize_model import StaysFloat as StaysFloat
from keras_fitkit.quantization.quantize_model import quantize_model as quantize_model
from keras_fitkit.quantization.rules import register as register
from keras_fitkit.quantization.strip_quantization import (
    strip_quantization as strip_quantization,
)
from keras_fitkit.quantization.wrapper import QuantizeWrapper as QuantizeWrapper

__all__ = [
    "BitAssignment",
    "BitSensitivity",
    "CalibrationReport",
    "ClusterWeights",
    "ExportReport",
    "FakeQuantize",
    "FellBackToFloat",
    "FloatOp",
    "LayerCalibration",
    "LayerError",
    "LayerSensitivity",
    "QuantizeConfig",
    "QuantizeWrapper",
    "StaysFloat",
    "assign_bits",
    "bit_sensitivity",
    "calibrate",
    "export_litert",
    "quantize_model",
    "reestimate_batch_norm",
    "register",
    "run_litert",
    "strip_quantization",
]
