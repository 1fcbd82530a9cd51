"""Number of latent actions: 4, 6 or 8 codes.

    python recipes/codes.py  # records CoinRun, 3 arms of 4 minutes
    python recipes/codes.py --data DATA --test TEST --size gpu  # 20 min on a GPU
    python recipes/codes.py --smoke  # check that it runs

One tokenizer is trained for all arms. Random actions are drawn among an arm's own codes. See
recipes/study.py.
"""

from study import COLUMNS, Arm, Study, main
from study_report import Column

STUDY = Study(
    name="codes",
    title="Number of latent actions",
    arms=tuple(Arm(f"{n} codes", {"world.latent_action.quantizer.codes": n}) for n in (4, 6, 8)),
    paper=(
        "The paper has 8 codes on Platformers and 6 on CoinRun; it reports that more codes improve quality "
        "and reduce playability (appendix C.1), without values."
    ),
    columns=(
        *COLUMNS,
        Column("mutual information with ground-truth actions, bits", "code_table.overall.mutual_information_bits"),
    ),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
