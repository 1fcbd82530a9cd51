"""Which tokens the dynamics sees masked in training: the paper's one rate for all frames, or a clean past as in play.

    python recipes/mask_rates.py                                   # records CoinRun, then 3 arms of 4 minutes
    python recipes/mask_rates.py --data DATA --test TEST --size gpu    # 20 minutes on one GPU
    python recipes/mask_rates.py --smoke                           # does it run? a minute

One tokenizer is trained for all arms. What each way is stands at `masking` in djinn.config.DynamicsConfig. See
recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="mask_rates",
    title="Masking in training",
    arms=tuple(Arm(kind, {"world.dynamics.masking": kind}) for kind in ("paper", "per_frame", "clean_past")),
    paper=(
        "The paper masks every frame but the first at one rate U(0.5, 1) (section 2.1) and prints no figures for other ways. "
        "`clean_past`, the default here, takes twice the computation of the dynamics for a step, which counts in its time."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
