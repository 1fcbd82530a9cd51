"""Stages of training: the video tokenizer, then latent actions and dynamics (paper section 2.1).

A new stage is a module here that subclasses `Stage` (or `QuantizingStage`), registers a
`StageSpec`, and is imported below.
"""

from djinn.train.stages.dynamics import DynamicsStage
from djinn.train.stages.quantizing import QuantizingStage
from djinn.train.stages.registry import STAGES, StageContext, StageSpec, register, select_stages, stage_order
from djinn.train.stages.stage import Draws, Metrics, Stage, StepBatch
from djinn.train.stages.tokenizer import TokenizerStage

__all__ = [
    "STAGES",
    "Draws",
    "DynamicsStage",
    "Metrics",
    "QuantizingStage",
    "Stage",
    "StageContext",
    "StageSpec",
    "StepBatch",
    "TokenizerStage",
    "register",
    "select_stages",
    "stage_order",
]
