import json
from dataclasses import asdict

import numpy as np
import pytest

from djinn.evaluate.controllability import (
    Moves,
    bootstrap,
    code_table,
    code_use,
    delta_psnr,
    entropy_bits,
    mutual_information_bits,
    percent,
)


def test_entropy():
    assert entropy_bits(np.array([5, 5, 5, 5])) == pytest.approx(2)
    assert entropy_bits(np.array([7, 0])) == 0
    assert entropy_bits(np.array([1, 3])) == pytest.approx(0.8112781)


def test_mutual_information():
    assert mutual_information_bits(np.diag([4, 4, 4, 4])) == pytest.approx(2)
    assert mutual_information_bits(np.ones((4, 4), int)) == pytest.approx(0, abs=1e-12)
    assert mutual_information_bits(np.array([[2, 2, 0, 0], [0, 0, 2, 2]])) == pytest.approx(1)


def test_code_use():
    use = code_use(np.array([[0] * 50, [2] * 49 + [3]]), 5)
    assert use.shares == pytest.approx([0.5, 0, 0.49, 0.01, 0])
    assert use.used == 2  # 1 % is below the mark
    assert use.transitions == 100
    assert use.perplexity == pytest.approx(2**use.entropy_bits)


def test_of_many_codes_each_has_a_smaller_share_to_reach():
    assert [code_use(np.arange(2), codes).used_from for codes in (2, 8, 16)] == pytest.approx([0.02, 0.02, 0.01])
    use = code_use(np.arange(160), 160)  # all alike
    assert use.used == 160 and use.used_from == pytest.approx(0.001)
    assert [percent(share) for share in (0.02, 0.01, 0.001)] == ["2 %", "1 %", "0.1 %"]


def test_code_table_on_planted_data():
    """Codes tell the move, save that code 2 is split between two moves and code 3 is never used."""
    moves = np.array([0] * 40 + [1] * 30 + [2] * 20 + [3] * 10 + [-1] * 5)
    codes = np.array([1] * 40 + [0] * 30 + [2] * 30 + [3] * 5)
    changed = moves != 0
    table = code_table(codes, moves, changed, ["none", "left", "right", "up"], 4)
    assert table.counts == [[0, 30, 0, 0], [40, 0, 0, 0], [0, 0, 20, 10], [0, 0, 0, 0]]
    assert table.reading == ["left", "none", "right", ""]
    assert table.overall.transitions == 100
    assert table.overall.accuracy == pytest.approx(0.9)
    assert table.overall.majority == pytest.approx(0.4)
    assert table.overall.mutual_information_bits == pytest.approx(entropy_bits(np.array([40, 30, 30])))
    assert table.overall.move_entropy_bits == pytest.approx(entropy_bits(np.array([40, 30, 20, 10])))
    assert table.changed.transitions == 60
    assert table.changed.accuracy == pytest.approx(50 / 60)
    json.dumps(asdict(table))


def test_code_table_without_any_known_move():
    table = code_table(np.array([0, 1]), np.array([-1, -1]), np.array([True, True]), ["none"], 2)
    assert table.overall.transitions == 0
    assert table.overall.accuracy == 0


def test_coinrun_has_nine_moves():
    from djinn.data.importers.policies import ACTION_NAMES

    moves = Moves.of(ACTION_NAMES, np.arange(15))
    assert len(moves.names) == 9
    assert [moves.names[i] for i in moves(np.arange(9, 15))] == ["none"] * 6
    assert moves.names[moves(np.array([8]))[0]] == "right+up"


def test_moves_without_names_and_unknown_ids():
    moves = Moves.of([], np.array([3, 7, -1]))
    assert moves.names == ["action 3", "action 7"]
    assert moves(np.array([[7, 3], [-1, 99], [5, 8]])).tolist() == [[1, 0], [-1, -1], [-1, -1]]


def test_bootstrap_covers_the_mean_and_shrinks_with_clips():
    rng = np.random.default_rng(1)
    few, many = (bootstrap(rng.normal(3, 2, (n, 2))) for n in (20, 2_000))
    assert len(few) == 2
    assert few[0].low < few[0].mean < few[0].high
    width = many[1].high - many[1].low
    assert width == pytest.approx(2 * 1.96 * 2 / 2_000**0.5, rel=0.15)
    assert abs(many[1].mean - 3) < 0.2


def test_delta_psnr_has_one_interval_for_each_horizon():
    inferred = np.array([[20.0, 18.0], [22.0, 19.0]])
    assert [d.mean for d in delta_psnr(inferred, inferred - [1, 4])] == pytest.approx([1, 4])
    assert delta_psnr(inferred, inferred)[0].high == 0
