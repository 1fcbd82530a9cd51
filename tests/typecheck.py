"""Type checker of the tests, for `--jaxtyping-packages=djinn,typecheck.check`."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # accepts an int for a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function with type checks; return it unchanged if a hint cannot be checked."""
    try:
        return _check(function)
    except BeartypeDecorHintPep3119Exception:  # a protocol that is not runtime_checkable
        return function
