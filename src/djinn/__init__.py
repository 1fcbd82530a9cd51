"""Djinn learns a playable world from unlabelled video and lets a person, or an agent, play it.

```python
import djinn

world = djinn.World.from_pretrained("path/to/world")
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djinn.errors import UserError
    from djinn.generate.session import Session
    from djinn.models.world import World

__version__ = "0.1.0"
__all__ = ["Session", "UserError", "World", "__version__"]

_PLACES = {"Session": "djinn.generate.session", "UserError": "djinn.errors", "World": "djinn.models.world"}


def __getattr__(name: str) -> Any:
    """Imports names when they are first asked for, so that `djinn --help` need not wait for torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'djinn' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
