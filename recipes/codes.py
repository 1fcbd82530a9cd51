"""How many latent actions: 4, 6 or 8 codes.

    python recipes/codes.py                                   # records CoinRun, then 3 arms of 4 minutes
    python recipes/codes.py --data DATA --test TEST --size gpu    # 20 minutes on one GPU
    python recipes/codes.py --smoke                           # does it run? a minute

One tokenizer is trained for all arms. Random actions are drawn among an arm's own codes. See recipes/study.py.
"""

from study import COLUMNS, Arm, Study, main
from study_report import Column

STUDY = Study(
    name="codes",
    title="Number of latent actions",
    arms=tuple(Arm(f"{n} codes", {"world.latent_action.quantizer.codes": n}) for n in (4, 6, 8)),
    paper=(
        "The paper has 8 codes on Platformers and 6 on CoinRun; it says that more of them help quality and cost playability "
        "(appendix C.1), and prints no figures."
    ),
    columns=(
        *COLUMNS,
        Column("bits that codes tell of true moves", "code_table.overall.mutual_information_bits"),
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
