"""Action conditioning of the dynamics: added to a frame's tokens (the paper), or prepended.

    python recipes/action_conditioning.py  # records CoinRun, 2 arms of 4 minutes
    python recipes/action_conditioning.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/action_conditioning.py --smoke  # check that it runs

One tokenizer is trained for both arms. See recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="action_conditioning",
    title="Action conditioning of the dynamics",
    arms=(Arm("add", {"world.dynamics.action": "add"}), Arm("prepend", {"world.dynamics.action": "prepend"})),
    paper=(
        "The paper (section 2.1) reports that adding was more controllable than concatenating, without "
        "values. Jasmine, a reproduction, had to prepend for faithful roll-outs on CoinRun, at the same "
        "training loss."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
