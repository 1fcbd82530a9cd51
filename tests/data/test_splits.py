from djinn.data import splits
from djinn.data.importers.procgen import split_levels


def test_no_required_split_is_empty():
    for count in range(1, 40):
        assigned = splits.assign([f"video-{i}" for i in range(count)], val=0.05, test=0.05)
        assert "train" in assigned
        assert count < 2 or "val" in assigned
        assert count < 10 or "test" in assigned


def test_fractions_hold_and_splits_do_not_depend_on_other_names():
    names = [f"video-{i}" for i in range(2000)]
    assigned = splits.assign(names, val=0.05, test=0.05)
    assert 60 < assigned.count("val") < 140 and 60 < assigned.count("test") < 140
    assert splits.assign(names[:1000], val=0.05, test=0.05) == assigned[:1000]


def test_levels_from_10000_are_in_test():
    levels = list(range(9_900, 10_050))
    assigned = dict(zip(levels, split_levels(levels), strict=True))
    assert all(assigned[level] == "test" for level in range(10_000, 10_050))
    assert {assigned[level] for level in range(9_900, 10_000)} == {"train", "val", "test"}
    assert split_levels([10_000]) == ["test"]
