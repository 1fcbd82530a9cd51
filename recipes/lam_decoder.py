"""How the latent action model's decoder makes the next frame: painted, as a change of the last one, or by moving its pixels.

    python recipes/lam_decoder.py                                      # records CoinRun, then 3 arms of 4 minutes
    python recipes/lam_decoder.py --data DATA --test TEST --size gpu   # 20 minutes on one GPU
    python recipes/lam_decoder.py --smoke                              # does it run? a minute

One tokenizer is trained for all arms. What each way is stands at `residual` and `warp` in
djinn.config.LatentActionConfig. See recipes/study.py.
"""

from study import COLUMNS, Arm, Study, main
from study_report import Column

_RESIDUAL, _WARP = "world.latent_action.residual", "world.latent_action.warp"

STUDY = Study(
    name="lam_decoder",
    title="What the latent action model's decoder does",
    arms=(
        Arm("paints the frame", {_RESIDUAL: False, _WARP: False}),
        Arm("changes the last frame", {_RESIDUAL: True, _WARP: False}),
        Arm("moves its pixels and changes them", {_RESIDUAL: True, _WARP: True}),
    ),
    paper=(
        "The paper's decoder paints every pixel of the next frame (section 2.1), and is larger by far. In the last column the "
        "best reading of the codes as true moves, as a share of the transitions whose pixels change."
    ),
    columns=(*COLUMNS, Column("reading", "code_table.changed.accuracy", 3, drawn=True)),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
