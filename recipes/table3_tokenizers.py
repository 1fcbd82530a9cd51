"""Table 3 of the paper: spatial (ViT), full space-time (C-ViViT) and ST tokenizers (ST-ViViT).

    python recipes/table3_tokenizers.py  # records CoinRun, 3 arms of 4 minutes
    python recipes/table3_tokenizers.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/table3_tokenizers.py --smoke  # check that it runs

Every arm trains its own tokenizer and, over it, the dynamics stage. The tokenizers have equal
numbers of parameters: a block of the two baselines has one attention layer instead of two, and a
wider feed-forward layer. Memory is the increase caused by training the tokenizer, measured in a
separate process. See recipes/study.py.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from study import COLUMNS, Arm, Study, main
from study_report import Column

BASELINE_FFN_MULT = 6.0
"""Feed-forward width of a block with one attention: 4 + 2 * 6 weights instead of 8 + 2 * 4."""


def _arm(kind: str, name: str, parameters: str, memory: str, fvd: str, delta: str) -> Arm:
    changes: dict[str, Any] = {"world.tokenizer.kind": kind}
    if kind != "st-vivit":
        changes |= {f"world.tokenizer.{part}.ffn_mult": BASELINE_FFN_MULT for part in ("encoder", "decoder")}
    return Arm(name, changes, {"parameters": parameters, "memory": memory, "FVD": fvd, "Δ4PSNR": delta})


def measure_tokenizer(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the parameters of a run's tokenizer, and the memory of its training in a subprocess.

    Args:
        run: The run folder.
        args: `device` from `study.read_args`.

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
        "The paper's tokenizers have patches of 10 pixels and were trained on clips of 16 frames in batches "
        "of 128, with the same latent action model and dynamics. The paper reports that C-ViViT overfits and "
        "needs strong regularisation, without details; none is used here."
    ),
    columns=(
        Column("parameters, M", "tokenizer_parameters_m"),
        Column("memory, MB", "tokenizer_memory_mb", 0, plotted=True),
        Column("tokenizer PSNR, dB", "tokenizer_psnr", plotted=True),
        Column("tokenizer SSIM", "tokenizer_ssim", 3),
        *COLUMNS,
    ),
    shared_tokenizer=False,
    extra=measure_tokenizer,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
