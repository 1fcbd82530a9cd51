import json

import numpy as np
import pytest

from djinn.evaluate.code_table import GroundTruthActions, code_table
from djinn.evaluate.statistics import entropy_bits


def test_code_table_on_planted_data():
    """Code 2 is split between two actions, code 3 never occurs, the others match one action."""
    actions = np.array([0] * 40 + [1] * 30 + [2] * 20 + [3] * 10 + [-1] * 5)
    codes = np.array([1] * 40 + [0] * 30 + [2] * 30 + [3] * 5)
    changed = actions != 0
    table = code_table(codes, actions, changed, ["none", "left", "right", "up"], 4)
    assert table.counts == [[0, 30, 0, 0], [40, 0, 0, 0], [0, 0, 20, 10], [0, 0, 0, 0]]
    assert table.labels == ["left", "none", "right", ""]
    assert table.overall.transitions == 100
    assert table.overall.accuracy == pytest.approx(0.9)
    assert table.overall.majority_accuracy == pytest.approx(0.4)
    assert table.overall.mutual_information_bits == pytest.approx(entropy_bits(np.array([40, 30, 30])))
    assert table.overall.action_entropy_bits == pytest.approx(entropy_bits(np.array([40, 30, 20, 10])))
    assert table.changed.transitions == 60
    assert table.changed.accuracy == pytest.approx(50 / 60)
    assert json.loads(json.dumps(table.summary())) == table.summary()


def test_lines_number_codes_from_0_with_their_names():
    codes, actions = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    table = code_table(codes, actions, np.ones(4, bool), ["none", "left", "up"], 3)
    lines = table.lines(["stay", "walk", "action 2"])
    assert lines[1].split() == ["action", "none", "left", "majority"]  # `up` never occurs
    assert lines[3].split() == ["1", "walk", "50", "50", "none"]
    assert lines[4].split() == ["2", "0", "0", "never", "used"]
    assert "code-to-action accuracy (majority vote) 75.0 %" in lines[5]


def test_code_table_without_known_actions():
    table = code_table(np.array([0, 1]), np.array([-1, -1]), np.array([True, True]), ["none"], 2)
    assert table.overall.transitions == 0
    assert table.overall.accuracy == 0


def test_coinrun_has_nine_distinct_actions():
    from djinn.data.importers.policies import ACTION_NAMES

    truth = GroundTruthActions.from_names(ACTION_NAMES, np.arange(15))
    assert len(truth.names) == 9
    assert [truth.names[i] for i in truth(np.arange(9, 15))] == ["none"] * 6
    assert truth.names[truth(np.array([8]))[0]] == "right+up"


def test_actions_without_names_and_unknown_ids():
    truth = GroundTruthActions.from_names([], np.array([3, 7, -1]))
    assert truth.names == ["action 3", "action 7"]
    assert truth(np.array([[7, 3], [-1, 99], [5, 8]])).tolist() == [[1, 0], [-1, -1], [-1, -1]]
