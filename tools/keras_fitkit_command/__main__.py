"""`python -m keras_fitkit_command`: the command without its script."""

import sys

from keras_fitkit_command import main

sys.exit(main())
