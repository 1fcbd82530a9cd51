"""Generation: one frame's tokens by MaskGIT, frame after frame in a session, whole roll-outs."""

from djinn.generate.rollout import rollout
from djinn.generate.session import Session

__all__ = ["Session", "rollout"]
