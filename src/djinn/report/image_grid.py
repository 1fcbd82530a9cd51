"""Image grid of roll-outs beside the real clips, for `rollouts.png`."""

from __future__ import annotations

from PIL import Image

from djinn.evaluate.rollouts import Examples
from djinn.image_grid import GridRow, draw_grid


def rollout_grid(examples: Examples) -> Image.Image:
    """Draw real clips above their roll-outs with inferred and with random actions.

    The caption of a generated frame is the action that led to it.
    """
    rows = []
    for i in range(len(examples.real)):
        rows.append(GridRow(examples.real[i], "real", starts_group=True))
        for label, video, actions in (
            ("inferred", examples.inferred[i], examples.inferred_actions[i]),
            ("random", examples.random[i], examples.random_actions[i]),
        ):
            rows.append(GridRow(video, label, ["prompt", *(f"action {a}" for a in actions)]))
    return draw_grid(rows, [f"frame {t}" for t in range(examples.real.shape[1])])
