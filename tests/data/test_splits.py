from djinn.data import splits
from djinn.data.importers.procgen import split_levels


def test_every_set_of_names_can_be_measured():
    for count in range(1, 40):
        dealt = splits.assign([f"film-{i}" for i in range(count)], val=0.05, test=0.05)
        assert "train" in dealt
        assert count < 2 or "val" in dealt
        assert count < 10 or "test" in dealt


def test_shares_and_stability():
    names = [f"film-{i}" for i in range(2000)]
    dealt = splits.assign(names, val=0.05, test=0.05)
    assert 60 < dealt.count("val") < 140 and 60 < dealt.count("test") < 140
    assert splits.assign(names[:1000], val=0.05, test=0.05) == dealt[:1000]


def test_levels_from_10000_are_for_testing():
    levels = list(range(9_900, 10_050))
    dealt = dict(zip(levels, split_levels(levels), strict=True))
    assert all(dealt[level] == "test" for level in range(10_000, 10_050))
    assert {dealt[level] for level in range(9_900, 10_000)} == {"train", "val", "test"}
    assert split_levels([10_000]) == ["test"]
