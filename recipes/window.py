"""Context length: windows of 4, 8 and 16 frames, with equal frames per batch and equal time.

    python recipes/window.py  # records CoinRun, 3 arms of 4 minutes
    python recipes/window.py --data DATA --test TEST --minutes 18  # actions have an effect
    python recipes/window.py --smoke  # check that it runs

Each arm trains both stages, since the tokenizer has the same window. Long roll-outs from one frame,
beyond all windows, are measured as well. See recipes/study.py.
"""

import argparse
from pathlib import Path
from typing import Any

from study import COLUMNS, Arm, Study, main
from study_data import open_data
from study_report import Column

from djinn.evaluate.long_rollouts import draw_long_clips, measure_long_rollouts
from djinn.models.world import World

REPORTED_FRAMES = (10, 25, 50)
"""Frames of a long roll-out whose PSNR is reported."""
SMOKE_FRAMES = 12
"""Frames of the long roll-out of a smoke test."""


def measure_long_psnr(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the PSNR of long roll-outs of a run's world.

    Args:
        run: The run folder.
        args: `data`, `test`, `out`, `size`, `smoke` and `device` from `study.read_args`.

    Returns:
        `long_psnr`, in dB by frame; None for frames beyond the end of a smoke test's roll-out.
    """
    frames = SMOKE_FRAMES if args.smoke else max(REPORTED_FRAMES)
    sample = draw_long_clips(open_data(args)[1], "test", frames, seed=0)
    psnr = measure_long_rollouts(World.from_pretrained(run, args.device), sample).summary()["psnr"]
    return {"long_psnr": {str(t): psnr.get(str(t)) for t in REPORTED_FRAMES}}


def _arm(frames: int, batch: int, tokenizer_batch: int) -> Arm:
    changes = {"world.context_frames": frames, "dynamics.batch": batch, "tokenizer.batch": tokenizer_batch}
    return Arm(f"{frames} frames", changes)


STUDY = Study(
    name="window",
    title="Context length",
    arms=(_arm(8, 8, 4), _arm(16, 4, 2), _arm(4, 16, 8)),
    paper="The paper uses 16 frames everywhere (sections 2.1 and 3) and reports no other windows.",
    columns=(
        Column("tokenizer PSNR, dB", "tokenizer_psnr"),
        *COLUMNS,
        *(Column(f"PSNR of frame {t}, dB", f"long_psnr.{t}") for t in REPORTED_FRAMES),
    ),
    shared_tokenizer=False,
    extra=measure_long_psnr,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
