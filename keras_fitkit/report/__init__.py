"""Reports: what a model costs, measured."""

from keras_fitkit.report.latency import Latency as Latency
from keras_fitkit.report.latency import LatencyReport as LatencyReport
from keras_fitkit.report.measure_latency import measure_latency as measure_latency

__all__ = ["Latency", "LatencyReport", "measure_latency"]
