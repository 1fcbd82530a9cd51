"""Evaluation as text for the terminal."""

from __future__ import annotations

from typing import Any

from djinn.evaluate.results import Evaluation
from djinn.evaluate.text import training_text


def format_report(evaluation: Evaluation) -> str:
    """Return the protocol and all metrics as text."""
    lines = [*_protocol_lines(evaluation.protocol), *evaluation.warnings()]
    for metric in evaluation.metrics().values():
        lines += ["", *metric.lines(evaluation.action_names)]
    return "\n".join(lines)


def _protocol_lines(protocol: dict[str, Any]) -> list[str]:
    sampler = protocol["sampler"]
    lines = [
        f"{protocol['clips']} clips of split '{protocol['split']}' of {protocol['dataset']} "
        f"({protocol['dataset_identity']}), {protocol['prompt_frames']} prompt frame(s) + {protocol['horizon']},",
        f"{sampler['steps']} MaskGIT steps, temperature {sampler['temperature']:g}, top-k {sampler['top_k'] or 'off'}, "
        f"choice temperature {sampler['choice_temperature']:g}, seed {protocol['seed']}",
        f"training: {training_text(protocol['training'])}",
    ]
    if protocol["clips"] < protocol["clips_requested"]:
        requested, frames = protocol["clips_requested"], protocol["clip_frames"]
        lines.append(f"note: {requested} clips were requested, but the split has no more of {frames} frames")
    return lines
