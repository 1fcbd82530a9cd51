"""Results of an evaluation: all metrics of a world, with the protocol of their measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from djinn.evaluate.action_effects import ActionEffects
from djinn.evaluate.action_usage import COLLAPSED, ActionUsage
from djinn.evaluate.clips import spread_over_sources
from djinn.evaluate.code_table import CodeTable
from djinn.evaluate.drift import Drift
from djinn.evaluate.fvd import VideoDistance
from djinn.evaluate.long_rollouts import LongRollouts
from djinn.evaluate.rollouts import Examples, RolloutMetrics
from djinn.evaluate.token_metrics import TokenMetrics, collapsed_text

GRID_EXAMPLES = 4
"""Clips in an image grid of roll-outs."""


@runtime_checkable
class Metric(Protocol):
    """Result of a metric, with its output for JSON and for the terminal."""

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        ...

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return text for the terminal.

        Args:
            names: Names of the latent actions.
        """
        ...


@dataclass(frozen=True)
class Evaluation:
    """All metrics of a world. Those that were not measured are None.

    Every field that is a `Metric` is part of the JSON results, of the text and of the HTML report,
    in the order of the fields.
    """

    rollouts: RolloutMetrics
    tokens: TokenMetrics
    fvd: VideoDistance | None
    random_frechet: VideoDistance | None
    action_usage: ActionUsage
    code_table: CodeTable | None
    """None if the data set has no ground-truth actions."""
    action_effects: ActionEffects | None
    drift: Drift | None
    long_rollouts: LongRollouts | None
    examples: Examples | None
    """Clips with their roll-outs, listed in the protocol under `examples`."""
    action_names: list[str]
    protocol: dict[str, Any]
    """How everything was measured."""

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics that were measured, by the names of their fields."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Metric)}

    def warnings(self) -> list[str]:
        """Return why metrics have no meaning, empty if there is no reason."""
        warnings = [COLLAPSED] if self.action_usage.collapsed else []
        codebook = self.tokens.summary()["codebook"]
        return [*warnings, collapsed_text(codebook)] if codebook["collapsed"] else warnings

    def summary(self) -> dict[str, Any]:
        """Return plain values, ready for JSON.

        PSNR and its differences are in dB, means over clips and frames; keys that end in
        `_interval` are bootstrap 95 % intervals over clips. Metrics that were not measured are
        None.

        - `tokenizer_psnr`, `tokenizer_ssim`: reconstructions.
        - `rollout_psnr`, `rollout_ssim`: roll-outs with inferred actions. `rollout`: lists `psnr`
          and `ssim` by frame for `inferred`, `random` and `repeat` (the last prompt frame).
        - `delta_psnr`, `delta_psnr_interval`, by frame ("1", "2", ...; the paper reports "4"): gain
          of inferred over uniformly random actions. `delta_psnr_empirical` and its interval: over
          random actions with the distribution of inferred actions.
        - `fvd`, `random_frechet` and their protocols `fvd_protocol`, `random_frechet_protocol`.
        - Every other metric: its `summary` under the name of its field.
        - `protocol`: how everything was measured.
        """
        results = self.rollouts.summary() | {"action_names": self.action_names}
        measured = self.metrics()
        for field in dataclasses.fields(self):
            metric = measured.get(field.name)
            if field.name in ("fvd", "random_frechet"):
                results |= self._distance(field.name)
            elif field.name not in ("rollouts", "examples", "action_names", "protocol"):
                results[field.name] = metric and metric.summary()
        return results | {"protocol": self.protocol}

    def _distance(self, name: str) -> dict[str, Any]:
        """Return a Frechet distance and its protocol, which includes that of the clips."""
        distance: VideoDistance | None = getattr(self, name)
        if distance is None:
            return {name: None, f"{name}_protocol": None}
        clips = {
            **{key: self.protocol[key] for key in _CLIP_KEYS},
            "compared": "roll-outs with inferred actions against the real clips, prompt frames included in both",
        }
        return {name: distance.distance(), f"{name}_protocol": distance.protocol() | clips}

    def grid_examples(self) -> Examples | None:
        """Return the `GRID_EXAMPLES` examples for an image grid, spread over the sources."""
        if self.examples is None:
            return None
        sources = [clip["source"] for clip in self.protocol["examples"]]
        return self.examples.rows(spread_over_sources(sources, GRID_EXAMPLES))


_CLIP_KEYS = ("clip_frames", "prompt_frames", "frame_stride", "clip_stride", "resolution", "fps")
"""Entries of the protocol that describe the clips."""
