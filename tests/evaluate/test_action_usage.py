import json

import numpy as np
import pytest

from djinn.evaluate.action_usage import action_usage
from djinn.evaluate.text import percent


def test_usage_of_codes():
    usage = action_usage(np.array([[0] * 50, [2] * 49 + [3]]), 5)
    assert usage.shares == pytest.approx([0.5, 0, 0.49, 0.01, 0])
    assert usage.num_used == 2  # 1 % is below the threshold
    assert usage.transitions == 100
    assert usage.perplexity == pytest.approx(2**usage.entropy_bits)
    assert json.loads(json.dumps(usage.summary())) == usage.summary()


def test_min_share_falls_with_the_number_of_codes():
    assert [action_usage(np.arange(2), codes).min_share for codes in (2, 8, 16)] == pytest.approx([0.02, 0.02, 0.01])
    usage = action_usage(np.arange(160), 160)  # uniform
    assert usage.num_used == 160 and usage.min_share == pytest.approx(0.001)


def test_percentages():
    shares = (1.0, 0.999, 0.45, 0.0949, 0.02, 0.0016, 0.0)
    assert [percent(share) for share in shares] == ["100 %", "100 %", "45 %", "9.5 %", "2 %", "0.16 %", "0 %"]


def test_lines_number_codes_from_0_with_their_names():
    text = "\n".join(action_usage(np.array([0, 1, 1]), 2).lines(["action 0", "jump"]))
    assert "2 of 2 codes in use" in text
    assert "0       33.3 %" in text and "1 jump  66.7 %" in text


def test_collapsed_actions_are_reported_as_such():
    usage = action_usage(np.array([0] * 99 + [1]), 8)
    assert usage.collapsed and usage.summary()["collapsed"]
    assert not action_usage(np.array([0] * 80 + [1] * 20), 8).collapsed
