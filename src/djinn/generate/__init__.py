"""Generation: the tokens of one frame by MaskGIT, sessions, and roll-outs."""

from djinn.generate.backend import Backend, TorchBackend
from djinn.generate.rollout import rollout
from djinn.generate.session import Session

__all__ = ["Backend", "Session", "TorchBackend", "rollout"]
