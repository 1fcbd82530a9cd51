"""The three models of the paper, and the world that combines them."""

from djinn.models.dynamics import DynamicsModel
from djinn.models.latent_action import LatentActionModel, LatentActionOutput
from djinn.models.tokenizer import TokenizerOutput, VideoTokenizer
from djinn.models.training_summary import TrainingSummary
from djinn.models.world import World, build
from djinn.models.world_folder import find_world

__all__ = [
    "DynamicsModel",
    "LatentActionModel",
    "LatentActionOutput",
    "TokenizerOutput",
    "TrainingSummary",
    "VideoTokenizer",
    "World",
    "build",
    "find_world",
]
