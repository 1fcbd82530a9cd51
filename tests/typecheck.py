"""With `--jaxtyping-packages=djinn,typecheck.check` tests check arguments and results of every function of djinn."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked for


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked; as it is, where a hint is a protocol without methods to ask."""
    try:
        return _check(function)
    except BeartypeDecorHintPep3119Exception:  # a protocol that is not runtime_checkable
        return function
