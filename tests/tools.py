"""What several test files share."""

import contextlib
import re
import warnings


@contextlib.contextmanager
def warns_once(category, match):
    """Expects exactly one warning of `category` whose text matches `match`.

    Unlike `pytest.warns` it does not issue the other warnings again: those that Keras
    raises on the way would fail the test, their module no longer being known.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    texts = [str(item.message) for item in caught if item.category is category]
    found = [text for text in texts if re.search(match, text)]
    assert len(found) == 1, f"{match!r} matches {len(found)} of {texts}"
