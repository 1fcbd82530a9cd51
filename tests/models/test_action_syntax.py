"""Parser of action lists: names, codes, counts, and the error for each mistake."""

import pytest

from djinn.errors import UserError
from djinn.models.action_syntax import MAX_ACTIONS, action_code, parse_actions

NAMES = ["stay", "right", "left", "up", "right (code 4)", "action 5", "Jump", "jump"]


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("0", [0]),
        ("right*3,3*2,left", [1, 1, 1, 3, 3, 2]),
        (" right * 2 , LEFT ", [1, 1, 2]),
        ("right (code 4)*2", [4, 4]),
        ("action 5", [5]),
        ("Jump,jump", [6, 7]),
        ("007*02", [7, 7]),
    ],
)
def test_names_codes_and_counts(text, actions):
    assert parse_actions(text, NAMES) == actions


def test_name_that_contains_the_repeat_sign():
    assert parse_actions("a*2,a*2*3", ["b", "a*2"]) == [1] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an entry of the action list is empty"),
        ("1,,2", "an entry of the action list is empty"),
        ("right,", "an entry of the action list is empty"),
        ("rihgt", "unknown action 'rihgt'; did you mean 'right'"),
        ("a", r"unknown action 'a'; .*8 actions, 0 to 7 \(0 stay, 1 right, 2 left, 3 up, 4 right \(code 4\), 6 Jump"),
        ("-1", "unknown action '-1'"),
        ("1;2", "unknown action '1;2'"),
        ("8", "action 8 is out of range: this world has 8 actions, 0 to 7"),
        ("9" * 5000, "is out of range"),
        ("JUMP", "several actions are named 'JUMP': give a code, 6 or 7"),
        ("0x5", r"'0x5' is not an action: to repeat action 0, write 0\*5"),
        ("right x10", r"to repeat action right, write right\*10"),
        ("0x", "unknown action '0x'"),
        ("9x2", "action 9 is out of range"),
        ("3*0", r"the count in '3\*0' must be an integer of 1 or more, for example '3\*5'"),
        ("3*", "the count in"),
        ("3*-1", "the count in"),
        ("3*1.5", "the count in"),
        ("3*²", "the count in"),
        ("*5", r"'\*5' repeats no action: write for example 0\*5"),
        (f"1*{MAX_ACTIONS},1", "more than 100,000 actions"),
        ("1*999999999", "more than 100,000 actions"),
        ("1*9999999999999", "more than 100,000 actions"),
    ],
)
def test_mistakes_name_the_entry_and_the_remedy(text, message):
    with pytest.raises(UserError, match=message):
        parse_actions(text, NAMES)


def test_single_action():
    assert action_code("LEFT", NAMES) == 2 and action_code(" 3 ", NAMES) == 3
    with pytest.raises(UserError, match="unknown action 'right\\*2'"):
        action_code("right*2", NAMES)


def test_unnamed_actions_are_not_listed():
    with pytest.raises(UserError, match=r"this world has 3 actions, 0 to 2$"):
        parse_actions("x", ["action 0", "action 1", "action 2"])
