"""What buys quality in a fixed time: rate, batch, averaging and corruption of the second stage, beside its own noise.

    python recipes/quality.py                                      # records CoinRun, then 9 arms of 4 minutes
    python recipes/quality.py --data DATA --test TEST --minutes 18    # time enough for actions to act
    python recipes/quality.py --smoke                              # does it run? a minute

One tokenizer is trained for all arms. Three arms differ in nothing but their seed: what lies within
their range is noise. See recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="quality",
    title="What buys quality in a fixed time",
    arms=(
        Arm("as it is", {}),
        Arm("seed 1", {"seed": 1}),
        Arm("rate 1.5e-3", {"dynamics.lr": 1.5e-3}),
        Arm("rate 6e-3", {"dynamics.lr": 6e-3}),
        Arm("batch 4", {"dynamics.batch": 4}),
        Arm("batch 16", {"dynamics.batch": 16}),
        Arm("EMA 0.99", {"dynamics.ema_decay": 0.99}),
        Arm("token_noise 0.3", {"world.dynamics.token_noise": 0.3}),
        Arm("seed 2", {"seed": 2}),
    ),
    paper=(
        "The paper trains dynamics and latent actions at 3e-5 (Table 9) and prints no figures for other rates; its loss falls "
        "with the batch, at an equal number of steps (Figure 9)."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
