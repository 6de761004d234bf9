"""`python -m keras_fitkit`: the command `keras-fitkit`."""

import sys

from keras_fitkit.cli import main

sys.exit(main())
