"""What every room may use. No stability guarantee: import from `keras_fitkit`."""
