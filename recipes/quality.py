"""Quality in a fixed time: learning rate, batch, averaging and token noise of the dynamics.

    python recipes/quality.py  # records CoinRun, 9 arms of 4 minutes
    python recipes/quality.py --data DATA --test TEST --minutes 18  # actions have an effect
    python recipes/quality.py --smoke  # check that it runs

One tokenizer is trained for all arms. Three arms differ in their seed only: differences within
their range are noise. See recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="quality",
    title="Quality in a fixed time",
    arms=(
        Arm("baseline", {}),
        Arm("seed 1", {"seed": 1}),
        Arm("lr 1.5e-3", {"dynamics.lr": 1.5e-3}),
        Arm("lr 6e-3", {"dynamics.lr": 6e-3}),
        Arm("batch 4", {"dynamics.batch": 4}),
        Arm("batch 16", {"dynamics.batch": 16}),
        Arm("EMA 0.99", {"dynamics.ema_decay": 0.99}),
        Arm("token noise 0.3", {"world.dynamics.token_noise": 0.3}),
        Arm("seed 2", {"seed": 2}),
    ),
    paper=(
        "The paper trains dynamics and latent actions at 3e-5 (Table 9) and reports no other rates; its "
        "loss falls with the batch size, at an equal number of steps (Figure 9)."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
