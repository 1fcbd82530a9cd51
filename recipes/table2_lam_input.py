"""Table 2 of the paper: latent actions learned from pixels or from tokens.

    python recipes/table2_lam_input.py  # records CoinRun, 2 arms of 4 minutes
    python recipes/table2_lam_input.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/table2_lam_input.py --smoke  # check that it runs

One tokenizer is trained for both arms; the dynamics stage is trained separately in each. See
recipes/study.py.
"""

from study import Arm, Study, main

STUDY = Study(
    name="table2_lam_input",
    title="Table 2: input of the latent action model",
    arms=(
        Arm(
            "tokens",
            {"world.latent_action.input": "tokens", "world.latent_action.warp": False},
            {
                "FVD, Platformers": "38.8",
                "Δ4PSNR, Platformers": "1.33",
                "FVD, Robotics": "257.8",
                "Δ4PSNR, Robotics": "1.65",
            },
        ),
        Arm(
            "pixels",
            {"world.latent_action.input": "pixels", "world.latent_action.warp": False},
            {
                "FVD, Platformers": "40.1",
                "Δ4PSNR, Platformers": "1.91",
                "FVD, Robotics": "136.4",
                "Δ4PSNR, Robotics": "2.07",
            },
        ),
    ),
    paper=(
        "The paper's worlds have 2.3B (tokens) and 2.5B (pixels) parameters on Platformers and 1B on "
        "Robotics. Pixels give the more controllable world, at about the same FVD on Platformers and at half of it "
        "on Robotics."
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
