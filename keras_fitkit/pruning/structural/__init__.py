"""Structural pruning: channels, heads and layers that are really gone."""
