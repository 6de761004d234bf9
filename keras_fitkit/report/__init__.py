"""Reports: what a model costs and how good it is, measured."""

from keras_fitkit.report.compare import compare as compare
from keras_fitkit.report.comparison import Comparison as Comparison
from keras_fitkit.report.compression_report import (
    compression_report as compression_report,
)
from keras_fitkit.report.compression_results import (
    CompressionReport as CompressionReport,
)
from keras_fitkit.report.energy import EnergyModel as EnergyModel
from keras_fitkit.report.figures import ModelFigures as ModelFigures
from keras_fitkit.report.forgotten import ClassChange as ClassChange
from keras_fitkit.report.forgotten import Forgotten as Forgotten
from keras_fitkit.report.latency import Latency as Latency
from keras_fitkit.report.latency import LatencyReport as LatencyReport
from keras_fitkit.report.measure_latency import measure_latency as measure_latency
from keras_fitkit.report.metric_values import MetricValue as MetricValue
from keras_fitkit.report.metric_values import PairedTest as PairedTest
from keras_fitkit.report.storage import WeightStorage as WeightStorage

__all__ = [
    "ClassChange",
    "Comparison",
    "CompressionReport",
    "EnergyModel",
    "Forgotten",
    "Latency",
    "LatencyReport",
    "MetricValue",
    "ModelFigures",
    "PairedTest",
    "WeightStorage",
    "compare",
    "compression_report",
    "measure_latency",
]
