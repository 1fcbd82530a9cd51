"""What true moves say of a code."""

from test_naming import table

from djinn.actions.labels import read_table, words_of


def test_true_moves_are_read_by_their_parts():
    assert words_of("right + up") == {"right", "up"} and words_of("UPRIGHTFIRE") == {"up", "right", "fire"}
    assert words_of("none") == words_of("NOOP") == set() and words_of("pick up") == {"pick up"}
    action_labels = read_table(
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
    assert [reading.words for reading in action_labels] == expected
    assert "left 90%" in action_labels[2].evidence and "in val" in action_labels[2].evidence


def test_who_jumps_to_both_sides_jumps():
    told = table([{"left+up": 54, "right+up": 44, "none": 2}, {"left": 30, "right": 60}, {"none": 200}])
    assert [reading.words for reading in read_table(told, "val")] == [("up",), ("right",), ("stay",)]
