"""Playable worlds from unlabelled video: an implementation of Genie (Bruce et al., 2024).

```python
import djinn

world = djinn.World.from_pretrained("coinrun")
session = djinn.Session(world, world.prompts[0])
frame = session.step(0)  # uint8 (1, height, width, 3)
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

_MODULES = {"Session": "djinn.generate.session", "UserError": "djinn.errors", "World": "djinn.models.world"}


def __getattr__(name: str) -> Any:
    """Import a public name on first access, so that `import djinn` does not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'djinn' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
