"""Table 3 of the paper: which tokenizer? Space alone (ViT), all of space-time at once (C-ViViT), or space then time (ST-ViViT).

    python recipes/table3_tokenizers.py                                   # records CoinRun, then 3 arms of 4 minutes
    python recipes/table3_tokenizers.py --data DATA --test TEST --size gpu    # 20 minutes on one GPU
    python recipes/table3_tokenizers.py --smoke                           # does it run? a minute

Every arm trains its own tokenizer and, over it, the same latent actions and dynamics. The tokenizers have equally many
parameters: a block of the rivals has one attention where ours has two, and a wider feed-forward layer for it. Memory is
what training the tokenizer adds, measured in a process of its own. See recipes/study.py.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from study import COLUMNS, Arm, Study, main
from study_report import Column

RIVAL_FFN = 6.0
"""Feed-forward width of a block with one attention: 4 + 2 * 6 weights where two attentions have 8 + 2 * 4, times d^2."""


def _arm(kind: str, name: str, parameters: str, memory: str, fvd: str, delta: str) -> Arm:
    rival = {f"world.tokenizer.{part}.ffn_mult": RIVAL_FFN for part in ("encoder", "decoder")}
    printed = {"parameters": parameters, "memory": memory, "FVD": fvd, "Δ4PSNR": delta}
    return Arm(name, {"world.tokenizer.kind": kind, **({} if kind == "st-vivit" else rival)}, printed)


def measure_tokenizer(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters of a run's tokenizer, and the memory that training it takes in a process that does nothing else.

    Args:
        run: the run folder.
        args: `device`, as of `study.read_args`.

    Returns:
        `tokenizer_parameters_m` (millions) and `tokenizer_memory_mb`.
    """
    script = Path(__file__).with_name("tokenizer_memory.py")
    command = [sys.executable, str(script), str(run / "config.yaml")]
    command += ["--device", args.device] if args.device else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


STUDY = Study(
    name="table3_tokenizers",
    title="Table 3: tokenizers",
    arms=(
        _arm("vit", "ViT", "230M", "0.3 GB", "114.5", "1.39"),
        _arm("c-vivit", "C-ViViT", "225M", "1.6 GB", "272.7", "1.37"),
        _arm("st-vivit", "ST-ViViT", "205M", "0.9 GB", "81.4", "1.66"),
    ),
    paper=(
        "The paper's tokenizers have patches of 10 pixels and were trained on clips of 16 frames in batches of 128, with the "
        "same latent action model and dynamics; it says that C-ViViT overfits and needs strong regularisation, but not which, "
        "and none is used here."
    ),
    columns=(
        Column("parameters, M", "tokenizer_parameters_m"),
        Column("memory, MB", "tokenizer_memory_mb", 0, drawn=True),
        Column("tokenizer PSNR, dB", "tokenizer_psnr", drawn=True),
        Column("tokenizer SSIM", "tokenizer_ssim", 3),
        *COLUMNS,
    ),
    one_tokenizer=False,
    extra=measure_tokenizer,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
