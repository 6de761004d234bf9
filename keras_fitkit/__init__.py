"""keras_fitkit: watch, regularize and compress Keras 3 models in an ordinary `fit`.

The public names are these; everything else may change without notice.
"""

from keras_fitkit import monitoring as monitoring
from keras_fitkit._core.schedules import ConstantSparsity as ConstantSparsity
from keras_fitkit._core.schedules import PolynomialSparsity as PolynomialSparsity
from keras_fitkit._core.schedules import SparsitySchedule as SparsitySchedule
from keras_fitkit.monitoring import Diagnosis as Diagnosis
from keras_fitkit.monitoring import EarlyStopping as EarlyStopping
from keras_fitkit.monitoring import OverfitMonitor as OverfitMonitor
from keras_fitkit.monitoring import OverfittingWarning as OverfittingWarning
from keras_fitkit.monitoring import StoppingReport as StoppingReport
from keras_fitkit.monitoring import diagnose as diagnose

__version__ = "0.1.0"

__all__ = [
    "ConstantSparsity",
    "Diagnosis",
    "EarlyStopping",
    "OverfitMonitor",
    "OverfittingWarning",
    "PolynomialSparsity",
    "SparsitySchedule",
    "StoppingReport",
    "diagnose",
    "monitoring",
]
