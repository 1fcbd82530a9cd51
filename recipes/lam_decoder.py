"""Decoder of the latent action model: full frame, residual, or warp and residual.

    python recipes/lam_decoder.py  # records CoinRun, 3 arms of 4 minutes
    python recipes/lam_decoder.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/lam_decoder.py --smoke  # check that it runs

One tokenizer is trained for all arms. `residual` and `warp` in djinn.config.LatentActionConfig
describe the variants. See recipes/study.py.
"""

from study import COLUMNS, Arm, Study, main
from study_report import Column

_RESIDUAL, _WARP = "world.latent_action.residual", "world.latent_action.warp"

STUDY = Study(
    name="lam_decoder",
    title="Decoder of the latent action model",
    arms=(
        Arm("full frame", {_RESIDUAL: False, _WARP: False}),
        Arm("residual", {_RESIDUAL: True, _WARP: False}),
        Arm("warp and residual", {_RESIDUAL: True, _WARP: True}),
    ),
    paper=(
        "The paper's decoder predicts every pixel of the next frame (section 2.1), and is far larger. The "
        "last column is the majority-vote accuracy on transitions whose pixels change."
    ),
    columns=(*COLUMNS, Column("code-to-action accuracy", "code_table.changed.accuracy", 3, plotted=True)),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
