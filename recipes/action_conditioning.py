"""How a latent action enters a frame in the dynamics: added to its tokens (the paper), or prepended as a token of its own.

    python recipes/action_conditioning.py                                   # records CoinRun, then 2 arms of 4 minutes
    python recipes/action_conditioning.py --data DATA --test TEST --size gpu    # 20 minutes on one GPU
    python recipes/action_conditioning.py --smoke                           # does it run? a minute

One tokenizer is trained for both arms. See recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="action_conditioning",
    title="How actions enter the dynamics",
    arms=(Arm("add", {"world.dynamics.action": "add"}), Arm("prepend", {"world.dynamics.action": "prepend"})),
    paper=(
        "The paper (section 2.1) says that adding was more controllable than concatenating and prints no figures. Jasmine, a "
        "reproduction, had to prepend for faithful roll-outs on CoinRun, at the same training loss."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
