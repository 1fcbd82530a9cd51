import numpy as np
import pytest
import torch

from djinn.actions.labels import ActionLabel
from djinn.actions.name_world import keep_own, run
from djinn.actions.naming import (
    Evidence,
    assign_keys,
    gather,
    name_actions,
    propose_names,
    read_effects,
)
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_of, measure_effects
from djinn.evaluate.controllability import code_table
from djinn.models.action_names import ActionName, proposed, read_actions, save_actions
from djinn.models.world import World
from moving import Scroller, ScrollerSession, prompts, texture, view

MOVES = [f"{x}{y}" for x in ("left", "", "right") for y in ("+down", "", "+up")]
MOVES = [move.strip("+") or "none" for move in MOVES]


def table(rows: list[dict[str, int]]):
    """A table of counts in which the codes of `rows` stand for moves."""
    codes = np.concatenate([np.full(sum(row.values()), code) for code, row in enumerate(rows)])
    moves = np.array([MOVES.index(move) for row in rows for move, count in row.items() for _ in range(count)])
    return code_table(codes, moves, np.ones(len(codes), bool), MOVES, len(rows))


@pytest.fixture
def scroll(monkeypatch):
    monkeypatch.setattr("djinn.evaluate.action_effects.Session", ScrollerSession)
    return lambda moves: measure_effects(Scroller(moves), prompts(12), frames=2, progress=False)


def names(actions):
    return [action.name for action in actions]


# ----------------------------------------------------------------------------------------------------- by the effects


def test_a_camera_that_follows_the_player(scroll):
    effects = scroll([(0, 0), (2, 0), (-2, 0), (0, -3), (2, -3), (0, 3), None])
    actions = propose_names(Evidence(effects, None, "val"))
    assert names(actions) == ["stay", "right", "left", "up", "right + up", "down", "action 6"]
    assert [list(a.keys) for a in actions] == [
        [],
        ["ArrowRight"],
        ["ArrowLeft"],
        ["ArrowUp", "Space"],
        ["ArrowRight+ArrowUp"],
        ["ArrowDown"],
        [],
    ]
    assert "of 12 prompts" in actions[1].evidence and not any(a.own for a in actions)


def test_alike_codes_are_counted_by_strength(scroll):
    actions = propose_names(Evidence(scroll([(1, 0), (3, 0), (2, 0), (0, 0), (0, 0)]), None, "val"))
    assert names(actions) == ["right 3", "right", "right 2", "stay", "stay 2"]
    assert [a.keys for a in actions] == [(), ("ArrowRight",), (), (), ()]


def test_a_world_that_ignores_its_actions_gets_no_names(scroll):
    for moves in ([(0, 0)] * 3, [(2, 0)] * 3, [None] * 3):
        actions = propose_names(Evidence(scroll(moves), None, "val"))
        assert names(actions) == ["action 0", "action 1", "action 2"] and not any(a.keys for a in actions)


def test_a_thing_that_moves_before_a_still_camera():
    frames = np.zeros((4, 6, 4, 64, 64, 3), np.uint8)
    for prompt in range(6):
        back = view(texture(prompt), 30, 30) // 8
        for code, (dx, dy) in enumerate([(0, -3), (0, 3), (4, 0), (0, 0)]):
            for t in range(4):
                frames[code, prompt, t] = back
                x, y = 24 + 2 * prompt + t * dx, 26 + t * dy
                frames[code, prompt, t, y : y + 9, x : x + 9] = view(texture(99), 3, 3, 9) // 2 + 120
    assert [reading.words for reading in read_effects(effects_of(frames))] == [
        ("up",),
        ("down",),
        ("right",),
        ("stay",),
    ]


# -------------------------------------------------------------------------------------------------- by the true moves


def test_true_moves_count_for_more_than_effects(scroll):
    effects = scroll([(2, 0), (-2, 0), (0, 0)])
    told = table([{"left": 50}, {"right": 26, "left": 24, "none": 50}, {"none": 30, "right": 10, "left": 10}])
    assert names(propose_names(Evidence(effects, told, "val"))) == ["left 2", "left", "stay"]  # the second goes left


def test_what_is_seen_to_rise_is_called_up(scroll):
    """Who jumps in the videos holds a side in the air, and goes nowhere where there is a wall."""
    effects = scroll([(0, -3), (2, -3), (2, 0), (-2, 0), (0, 0)])
    told = table([{"left": 70, "right": 10}, {"right": 80}, {"right": 60}, {"left": 60}, {"none": 60}])
    actions = propose_names(Evidence(effects, told, "val"))
    assert names(actions) == ["up", "right + up", "right", "left", "stay"]
    assert [a.keys[0] for a in actions[:4]] == ["ArrowUp", "ArrowRight+ArrowUp", "ArrowRight", "ArrowLeft"]


def test_what_goes_nowhere_is_no_second_left(scroll):
    """Walls and falls hide the move that is held; without a code that does go left the name stays."""
    told = table([{"left": 60}, {"left": 60}, {"right": 60}])
    assert names(propose_names(Evidence(scroll([(-2, 0), (0, 0), (2, 0)]), told, "val"))) == ["left", "stay", "right"]
    assert names(propose_names(Evidence(scroll([(0, 0), (0, 0), (2, 0)]), told, "val"))) == ["left", "left 2", "right"]


def test_of_several_codes_for_one_move_the_farthest_comes_first(scroll):
    """However sure the true moves are of the others: it is the key that a person will hold."""
    effects = scroll([(1, 0), (3, 0), (0, 0), (-1, 0)])
    told = table([{"right": 60}, {"right": 40, "none": 20}, {"none": 60}, {"left": 60}])
    actions = propose_names(Evidence(effects, told, "val"))
    assert names(actions) == ["right 2", "right", "stay", "left"]
    assert [list(action.keys) for action in actions] == [[], ["ArrowRight"], [], ["ArrowLeft"]]


def test_of_two_codes_the_one_that_does_only_that_comes_first(scroll):
    """The fast one also rises from half of the prompts: not what a person expects of the right arrow."""
    low, high = (scroll([(3, y), (2, 0), (0, 0), (-2, 0)]).frames for y in (0, -3))
    effects = effects_of(np.concatenate([low[:, :7], high[:, 7:]], axis=1))
    told = table([{"right": 60}, {"right": 60}, {"none": 60}, {"left": 60}])
    assert names(propose_names(Evidence(effects, told, "val"))) == ["right 2", "right", "stay", "left"]


def test_arrows_go_to_those_who_do_one_thing():
    keys = assign_keys(
        [
            ActionLabel(("right", "jump"), 9),
            ActionLabel(("right",), 1),
            ActionLabel(("jump",), 2),
            ActionLabel(("left", "jump"), 3),
            ActionLabel(("right", "jump"), 1),
            ActionLabel(("stay",), 9),
        ]
    )
    assert keys == [["ArrowRight+ArrowUp"], ["ArrowRight"], ["ArrowUp", "Space"], ["ArrowLeft"], [], []]


# ---------------------------------------------------------------------------------------------------- into the folder


@pytest.fixture
def data(tmp_path) -> Dataset:
    rng = np.random.default_rng(0)
    with DatasetWriter(
        tmp_path / "data", height=12, width=10, fps=10, metadata={"action_names": ["none", "go"]}
    ) as writer:
        for i in range(6):
            frames = rng.integers(256, size=(12, 12, 10, 3), dtype=np.uint8)
            actions = rng.integers(2, size=11)
            writer.add_episode(frames, source=str(i), split="val" if i else "train", actions=actions)
    return Dataset.open(tmp_path / "data")


@pytest.fixture
def folder(make_world, tmp_path):
    make_world().save_pretrained(tmp_path / "run" / "world", dtype="fp32")
    return tmp_path / "run" / "world"


def test_what_a_person_has_chosen_stays():
    before = [
        ActionName(0, "hop", ("ArrowUp",)),
        ActionName(1, "action 1"),
        proposed(2, "left", ["ArrowLeft"], "old"),
        ActionName(3, "right", ("ArrowRight",), proposed(3, "left", ["ArrowLeft"], "old").proposal),
    ]
    fresh = [
        proposed(i, name, [key], "new") for i, (name, key) in enumerate([("left", "ArrowLeft"), ("up", "ArrowUp")])
    ]
    fresh += [proposed(2, "right", ["ArrowRight"], "new"), proposed(3, "down", [], "new")]
    after = keep_own(before, fresh)
    assert names(after) == ["hop", "up", "right (code 2)", "right"]
    assert [a.keys for a in after] == [("ArrowUp",), (), (), ("ArrowRight",)]
    assert [a.own for a in after] == [True, False, False, True]
    assert [a.evidence for a in after] == ["new"] * 4


def test_the_file_comes_back_as_it_was_written(folder):
    actions = [proposed(0, "ø: [left]", ["ArrowLeft", " "], "yes, no"), ActionName(1, "on"), ActionName(2, "1", ("a",))]
    save_actions(folder, actions)
    assert read_actions(folder, 3) == actions
    assert [a.own for a in actions] == [False, True, True]
    with pytest.raises(UserError, match="names 3 actions"):
        World.from_pretrained(folder, "cpu")
    escape = 'actions: [{name: "\\e[31mred"}]'  # a terminal would obey it
    for text in ("actions: [{name: a, proposed: 3}]", escape, "actions: [{name: 2024-13-45}]"):
        (folder / "actions.yaml").write_text(text)
        with pytest.raises(UserError, match=r"is invalid|is not valid YAML"):
            read_actions(folder, 1)


def test_names_survive_as_training_goes_on(make_world, folder):
    before = read_actions(folder, 5)
    before[1], before[2] = ActionName(1, "hop", ("ArrowUp",)), proposed(2, "left", ["ArrowLeft"], "because")
    save_actions(folder, before)
    make_world(seed=1).save_pretrained(folder)
    after = read_actions(folder, 5)
    assert after[1] == before[1] and after[2] == ActionName(2, "action 2")
    save_actions(folder, before)
    World.from_pretrained(folder, "cpu").save_pretrained(folder)
    assert read_actions(folder, 5) == before


def test_the_command_names_a_world(folder, data, capsys):
    written = run(str(folder.parent), data.path, prompts=4)
    said = capsys.readouterr().out
    assert "true moves of each code" in said and "Consistency" in said and str(folder / "actions.yaml") in said
    assert read_actions(folder, 5) == written and all(a.proposal for a in written)
    save_actions(folder, [written[0].renamed("mine"), *written[1:]])
    assert names(run(str(folder), data.path, prompts=4))[0] == "mine"
    assert "1 of the names" in capsys.readouterr().out
    assert names(run(str(folder), data.path, prompts=4, force=True)) == names(written)


def test_the_names_of_a_world_without_its_latent_action_model(folder, data):
    (folder / "latent_action.safetensors").unlink()
    assert len(name_actions(World.from_pretrained(folder, "cpu"), data, prompts=3, progress=False)) == 5


def test_without_held_out_clips_those_of_training_do(folder, tmp_path):
    with DatasetWriter(tmp_path / "short", height=12, width=10, fps=10) as writer:
        for split, frames in (("val", 2), ("train", 9)):
            writer.add_episode(np.zeros((frames, 12, 10, 3), np.uint8), source=split, split=split)
    evidence = gather(World.from_pretrained(folder, "cpu"), Dataset.open(tmp_path / "short"), prompts=3, progress=False)
    assert evidence.split == "train" and evidence.table is None


def test_what_cannot_be_named_is_one_sentence(folder, data, tmp_path, make_world):
    with pytest.raises(UserError, match="at least 2"):
        run(str(folder), data.path, prompts=1)
    with DatasetWriter(tmp_path / "other", height=8, width=8, fps=10) as writer:
        writer.add_episode(np.zeros((9, 8, 8, 3), np.uint8), source="a", split="val")
    with pytest.raises(UserError, match="8x8"):
        run(str(folder), tmp_path / "other")


def test_names_do_not_depend_on_the_machine_s_draws(folder, data):
    world = World.from_pretrained(folder, "cpu")
    torch.manual_seed(5)
    one = name_actions(world, data, prompts=3, progress=False)
    torch.manual_seed(6)
    assert name_actions(world, data, prompts=3, progress=False) == one
