"""Labels of codes from ground-truth actions."""

from test_naming import table

from djinn.actions.labels import labels_from_ground_truth, words_of


def test_words_that_ground_truth_actions_have_in_common():
    assert words_of("right + up") == {"right", "up"} and words_of("UPRIGHTFIRE") == {"up", "right", "fire"}
    assert words_of("none") == words_of("NOOP") == set() and words_of("pick up") == {"pick up"}
    labels = labels_from_ground_truth(
        table(
            [
                {"right+up": 60, "right": 20, "right+down": 10, "none": 10},
                {"right+up": 25, "left+up": 30, "up": 30, "none": 15},
                {"left": 40, "left+down": 30, "left+up": 20, "right": 10},
                {"left": 30, "right": 30, "none": 20, "up": 20},
                {"none": 80, "left": 20},
                {"right": 9},
            ]
        ),
        "val",
    )
    expected = [("right", "up"), ("up",), ("left",), (), ("stay",), ()]
    assert [label.words for label in labels] == expected
    assert "left 90 %" in labels[2].evidence and "in val" in labels[2].evidence


def test_jumps_to_both_sides_are_labelled_up():
    truth = table([{"left+up": 54, "right+up": 44, "none": 2}, {"left": 30, "right": 60}, {"none": 200}])
    assert [label.words for label in labels_from_ground_truth(truth, "val")] == [("up",), ("right",), ("stay",)]
