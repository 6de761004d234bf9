"""Watch the fit: is it overfitting, underfitting or neither, and when to stop.

A rule is a callable `(train, validation) -> bool` on the values of all epochs so far,
lower is better. `OverfitMonitor(rule=)`, `diagnose(rule=)` and
`EarlyStopping(criterion=)` take any of them, with other parameters than the defaults.
"""

from keras_fitkit.monitoring.advice import Remedy as Remedy
from keras_fitkit.monitoring.diagnosis import Diagnosis as Diagnosis
from keras_fitkit.monitoring.early_stopping import EarlyStopping as EarlyStopping
from keras_fitkit.monitoring.overfit_monitor import OverfitMonitor as OverfitMonitor
from keras_fitkit.monitoring.overfit_monitor import (
    OverfittingWarning as OverfittingWarning,
)
from keras_fitkit.monitoring.prechelt import GeneralizationLoss as GeneralizationLoss
from keras_fitkit.monitoring.prechelt import ProgressQuotient as ProgressQuotient
from keras_fitkit.monitoring.prechelt import SuccessiveStrips as SuccessiveStrips
from keras_fitkit.monitoring.rules import OverfitTrend as OverfitTrend
from keras_fitkit.monitoring.sources import diagnose as diagnose
from keras_fitkit.monitoring.stopping_report import StoppingReport as StoppingReport

__all__ = [
    "Diagnosis",
    "EarlyStopping",
    "GeneralizationLoss",
    "OverfitMonitor",
    "OverfitTrend",
    "OverfittingWarning",
    "ProgressQuotient",
    "Remedy",
    "StoppingReport",
    "SuccessiveStrips",
    "diagnose",
]
