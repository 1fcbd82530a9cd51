"""How many frames a world remembers: windows of 4, 8 and 16 frames, as many frames in a batch, each for the same time.

    python recipes/window.py                                      # records CoinRun, then 3 arms of 4 minutes
    python recipes/window.py --data DATA --test TEST --minutes 18    # time enough for actions to act
    python recipes/window.py --smoke                              # does it run? a minute

Each arm trains both stages, for the tokenizer has the same window. Long roll-outs from one frame, past all windows, are
measured as well. See recipes/study.py.
"""

import argparse
from pathlib import Path
from typing import Any

from study import COLUMNS, Arm, Study, main
from study_data import open_data
from study_report import Column

from djinn.evaluate.long_rollouts import draw_long, play_long
from djinn.models.world import World

SHOWN = (10, 25, 50)
"""Frames of a long roll-out whose PSNR is shown."""
SMOKE = 12
"""Frames of the long roll-out of a smoke test."""


def play_on(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """How close long roll-outs of a run's world stay to the true future.

    Args:
        run: the run folder.
        args: `data`, `test`, `out`, `size`, `smoke` and `device`, as of `study.read_args`.

    Returns:
        `long_psnr`, in dB by the frame; None for frames past the end of a smoke test's.
    """
    sample = draw_long(open_data(args)[1], "test", SMOKE if args.smoke else max(SHOWN), seed=0)
    played = play_long(World.from_pretrained(run, args.device), sample).summary()["psnr"]
    return {"long_psnr": {str(t): played.get(str(t)) for t in SHOWN}}


def _arm(frames: int, batch: int, tokenizer_batch: int) -> Arm:
    changes = {"world.context_frames": frames, "dynamics.batch": batch, "tokenizer.batch": tokenizer_batch}
    return Arm(f"{frames} frames", changes)


STUDY = Study(
    name="window",
    title="How many frames a world remembers",
    arms=(_arm(8, 8, 4), _arm(16, 4, 2), _arm(4, 16, 8)),
    paper="The paper remembers 16 frames everywhere (sections 2.1 and 3) and prints no figures for other windows.",
    columns=(
        Column("tokenizer PSNR, dB", "tokenizer_psnr"),
        *COLUMNS,
        *(Column(f"PSNR of frame {t}, dB", f"long_psnr.{t}") for t in SHOWN),
    ),
    one_tokenizer=False,
    extra=play_on,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
