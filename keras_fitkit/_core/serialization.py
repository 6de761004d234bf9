"""Names under which Keras saves and finds our objects: `keras_fitkit>Name`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import keras

PACKAGE = "keras_fitkit"

T = TypeVar("T", bound=Callable[..., Any])


def serializable(item: T) -> T:
    """Registers a class or a function with Keras as `keras_fitkit>Name`.

    A saved model that holds the object then loads without `custom_objects`. Classes
    must have `get_config`.

    Args:
        item: the class or function; its `__name__` becomes the name in the file.

    Returns:
        The same object, of the same type.

    Raises:
        ValueError: if another object has that name already; Keras would silently load
            the one for the other. The same object again, also after
            `importlib.reload`, is fine.

    Example:
        >>> import keras
        >>> @serializable
        ... def twice(x):
        ...     return 2 * x
        >>> keras.saving.get_registered_name(twice)
        'keras_fitkit>twice'
    """
    name = f"{PACKAGE}>{item.__name__}"
    known = keras.saving.get_registered_object(name)
    if known is not None and _origin(known) != _origin(item):
        raise ValueError(
            f"`{item.__name__}` must be registered once. Received: {_origin(item)}, "
            f"but '{name}' is {_origin(known)} already. Rename one of the two."
        )
    registered: T = keras.saving.register_keras_serializable(package=PACKAGE)(item)
    return registered


def _origin(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"
