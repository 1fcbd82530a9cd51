"""Masking in training: the paper's one rate for all frames, or a clean past as in play.

    python recipes/mask_rates.py  # records CoinRun, 3 arms of 4 minutes
    python recipes/mask_rates.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/mask_rates.py --smoke  # check that it runs

One tokenizer is trained for all arms. `masking` in djinn.config.DynamicsConfig describes the
variants. See recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="mask_rates",
    title="Masking in training",
    arms=tuple(Arm(kind, {"world.dynamics.masking": kind}) for kind in ("paper", "per_frame", "clean_past")),
    paper=(
        "The paper masks every frame but the first at one rate U(0.5, 1) (section 2.1) and reports no "
        "alternatives. `clean_past`, the default here, doubles the computation of the dynamics per step, "
        "which counts in its time."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
