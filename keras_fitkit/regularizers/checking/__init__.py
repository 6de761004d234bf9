"""The mistakes that cost a training, looked for before it."""

from keras_fitkit.regularizers.checking.check import check as check
from keras_fitkit.regularizers.checking.report import CheckReport as CheckReport
from keras_fitkit.regularizers.checking.report import Finding as Finding
