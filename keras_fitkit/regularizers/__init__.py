"""Against overfitting: presets, regularize, augmentation, weight decay."""

from keras_fitkit.regularizers.adjustable import AdjustableDropout as AdjustableDropout
from keras_fitkit.regularizers.adjustable import AdjustableNoise as AdjustableNoise
from keras_fitkit.regularizers.augmenting import Augmentation as Augmentation
from keras_fitkit.regularizers.augmenting import augmentation as augmentation
from keras_fitkit.regularizers.checking import CheckReport as CheckReport
from keras_fitkit.regularizers.checking import Finding as Finding
from keras_fitkit.regularizers.checking import check as check
from keras_fitkit.regularizers.decay import (
    exclude_norms_and_biases as exclude_norms_and_biases,
)
from keras_fitkit.regularizers.preset import Preset as Preset
from keras_fitkit.regularizers.presets import PresetTable as PresetTable
from keras_fitkit.regularizers.presets import get as get
from keras_fitkit.regularizers.presets import list_presets as list_presets
from keras_fitkit.regularizers.regularizing import regularize as regularize
from keras_fitkit.regularizers.report import (
    RegularizationReport as RegularizationReport,
)
from keras_fitkit.regularizers.report import RegularizedLayer as RegularizedLayer

__all__ = [
    "AdjustableDropout",
    "AdjustableNoise",
    "Augmentation",
    "CheckReport",
    "Finding",
    "Preset",
    "PresetTable",
    "RegularizationReport",
    "RegularizedLayer",
    "augmentation",
    "check",
    "exclude_norms_and_biases",
    "get",
    "list_presets",
    "regularize",
]
