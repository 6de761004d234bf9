"""What the command `keras-fitkit` does.

Its arguments are read in `keras_fitkit_command`, so that help does not wait for Keras.
"""

from keras_fitkit.cli.commands import run as run
from keras_fitkit_command import main as main

__all__ = ["main", "run"]
