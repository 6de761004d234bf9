"""A part of the soak; all of it is `make soak`."""

import pytest

from tests.reliability.soak import soak

KILLS = 2


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_a_whole_run():
    found = soak(KILLS, seed=1)
    assert found["differences"] == 0, found
    assert found["kills"] == found["asked_for"]
