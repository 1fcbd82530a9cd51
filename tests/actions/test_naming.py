import numpy as np
import pytest
import torch

from djinn.actions.keys import assign_keys
from djinn.actions.labels import ActionLabel
from djinn.actions.motion_labels import labels_from_motion
from djinn.actions.name_world import keep_own, run_naming
from djinn.actions.naming import Evidence, gather, name_actions, propose_names
from djinn.actions.settings import NamingSettings
from djinn.data.dataset import Dataset
from djinn.data.writer import DatasetWriter
from djinn.errors import UserError
from djinn.evaluate.action_effects import effects_from_frames, measure_action_effects
from djinn.evaluate.action_usage import action_usage
from djinn.evaluate.code_table import code_table
from djinn.models.action_names import ActionName, proposed, read_actions, save_actions
from djinn.models.training_summary import TrainingSummary
from djinn.models.world import World
from moving import Scroller, ScrollerSession, prompts, texture, view

ACTIONS = [f"{x}{y}" for x in ("left", "", "right") for y in ("+down", "", "+up")]
ACTIONS = [action.strip("+") or "none" for action in ACTIONS]


def table(rows: list[dict[str, int]]):
    """Return a table with the given counts of ground-truth actions for each code."""
    codes = np.concatenate([np.full(sum(row.values()), code) for code, row in enumerate(rows)])
    actions = np.array([ACTIONS.index(name) for row in rows for name, count in row.items() for _ in range(count)])
    return code_table(codes, actions, np.ones(len(codes), bool), ACTIONS, len(rows))


@pytest.fixture
def scroll(monkeypatch):
    monkeypatch.setattr("djinn.evaluate.action_effects.Session", ScrollerSession)
    return lambda moves: measure_action_effects(Scroller(moves), prompts(12), frames=2, progress=False)


def names(actions):
    return [action.name for action in actions]


# ------------------------------------------------------------------------------------------ motion


def test_names_with_a_camera_that_follows_the_player(scroll):
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
    assert "of 12 prompts" in actions[1].evidence and not any(a.is_custom for a in actions)


def test_codes_with_one_name_are_numbered_by_strength(scroll):
    actions = propose_names(Evidence(scroll([(1, 0), (3, 0), (2, 0), (0, 0), (0, 0)]), None, "val"))
    assert names(actions) == ["right 3", "right", "right 2", "stay", "stay 2"]
    assert [a.keys for a in actions] == [(), ("ArrowRight",), (), (), ()]


def test_a_world_that_ignores_its_actions_gets_neither_names_nor_keys(scroll):
    for moves in ([(0, 0)] * 3, [(2, 0)] * 3, [None] * 3):
        actions = propose_names(Evidence(scroll(moves), None, "val"))
        assert names(actions) == ["action 0", "action 1", "action 2"] and not any(a.keys for a in actions)


def test_an_object_that_moves_before_a_still_camera():
    frames = np.zeros((4, 6, 4, 64, 64, 3), np.uint8)
    for prompt in range(6):
        background = view(texture(prompt), 30, 30) // 8
        for code, (dx, dy) in enumerate([(0, -3), (0, 3), (4, 0), (0, 0)]):
            for t in range(4):
                frames[code, prompt, t] = background
                x, y = 24 + 2 * prompt + t * dx, 26 + t * dy
                frames[code, prompt, t, y : y + 9, x : x + 9] = view(texture(99), 3, 3, 9) // 2 + 120
    assert [label.words for label in labels_from_motion(effects_from_frames(frames))] == [
        ("up",),
        ("down",),
        ("right",),
        ("stay",),
    ]


# ---------------------------------------------------------------------------- ground-truth actions


def test_ground_truth_takes_precedence_over_motion(scroll):
    effects = scroll([(2, 0), (-2, 0), (0, 0)])
    truth = table([{"left": 50}, {"right": 26, "left": 24, "none": 50}, {"none": 30, "right": 10, "left": 10}])
    assert names(propose_names(Evidence(effects, truth, "val"))) == [
        "left 2",
        "left",
        "stay",
    ]  # code 1 moves to the left


def test_vertical_motion_is_named_up(scroll):
    """In the videos, players hold left or right while jumping, and do not move at walls."""
    effects = scroll([(0, -3), (2, -3), (2, 0), (-2, 0), (0, 0)])
    truth = table([{"left": 70, "right": 10}, {"right": 80}, {"right": 60}, {"left": 60}, {"none": 60}])
    actions = propose_names(Evidence(effects, truth, "val"))
    assert names(actions) == ["up", "right + up", "right", "left", "stay"]
    assert [a.keys[0] for a in actions[:4]] == ["ArrowUp", "ArrowRight+ArrowUp", "ArrowRight", "ArrowLeft"]


def test_a_code_without_motion_is_stay_if_another_code_moves_that_way(scroll):
    """Walls and falls hide motion, so the only code for a direction keeps its name."""
    truth = table([{"left": 60}, {"left": 60}, {"right": 60}])
    assert names(propose_names(Evidence(scroll([(-2, 0), (0, 0), (2, 0)]), truth, "val"))) == ["left", "stay", "right"]
    truth = table([{"left": 60}, {"right": 60}])
    actions = propose_names(Evidence(scroll([(0, 0), (2, 0)]), truth, "val"))
    assert names(actions) == ["left", "right"]
    assert [action.keys for action in actions] == [(), ("ArrowRight",)]  # no motion, no key


def test_of_several_codes_for_one_action_the_fastest_comes_first(scroll):
    """The key goes to the code with the largest effect, not the clearest ground truth."""
    effects = scroll([(1, 0), (3, 0), (0, 0), (-1, 0)])
    truth = table([{"right": 60}, {"right": 40, "none": 20}, {"none": 60}, {"left": 60}])
    actions = propose_names(Evidence(effects, truth, "val"))
    assert names(actions) == ["right 2", "right", "stay", "left"]
    assert [list(action.keys) for action in actions] == [[], ["ArrowRight"], [], ["ArrowLeft"]]


def test_of_two_codes_the_one_without_other_motion_comes_first(scroll):
    """The faster code also moves up from half of the prompts."""
    low, high = (scroll([(3, y), (2, 0), (0, 0), (-2, 0)]).frames for y in (0, -3))
    effects = effects_from_frames(np.concatenate([low[:, :7], high[:, 7:]], axis=1))
    truth = table([{"right": 60}, {"right": 60}, {"none": 60}, {"left": 60}])
    assert names(propose_names(Evidence(effects, truth, "val"))) == ["right 2", "right", "stay", "left"]


def test_arrow_keys_are_assigned_to_codes_with_one_direction():
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


# ----------------------------------------------------------------------- actions without an effect


def test_actions_that_generate_the_same_frames_share_one_key(scroll):
    """Ground truth does not make two identical codes different."""
    effects = scroll([(-2, 0), (2, 0), (2, 0), (0, -3)])
    actions = propose_names(Evidence(effects, None, "val"))
    assert names(actions) == ["left", "right", "right 2", "up"]
    assert [action.keys for action in actions] == [("ArrowLeft",), ("ArrowRight",), (), ("ArrowUp", "Space")]
    assert "generates the same frames as action 1" in actions[2].evidence
    truth = table([{"left": 60}, {"right": 60}, {"right+up": 60}, {"up": 60}])
    actions = propose_names(Evidence(effects, truth, "val"))
    assert actions[2].keys == () or actions[1].keys == ()


def test_identical_actions_without_motion_are_stay_whatever_the_ground_truth(scroll):
    truth = table([{"left": 60}, {"left": 60}, {"right": 60}])
    actions = propose_names(Evidence(scroll([(0, 0), (0, 0), (2, 0)]), truth, "val"))
    assert names(actions) == ["stay", "stay 2", "right"]
    assert [action.keys for action in actions] == [(), (), ("ArrowRight",)]


def test_all_actions_identical_despite_ground_truth(scroll):
    truth = table([{"left": 60}, {"right": 60}, {"up": 60}])
    actions = propose_names(Evidence(scroll([(1, 0)] * 3), truth, "val"))
    assert names(actions) == ["action 0", "action 1", "action 2"]
    assert not any(action.keys for action in actions)
    assert all("no measurable effect" in action.evidence for action in actions)


def test_unused_codes_get_no_keys(scroll):
    """The dynamics model was not trained on codes that never occur in the videos."""
    effects = scroll([(-2, 0), (2, 0), (0, 0)])
    usage = action_usage(np.array([0] * 60 + [2] * 60), 3)
    actions = propose_names(Evidence(effects, None, "val", usage))
    assert names(actions) == ["left", "right", "stay"]
    assert [action.keys for action in actions] == [("ArrowLeft",), (), ()]
    assert "inferred for only 0 % of 120 transitions" in actions[1].evidence


@pytest.mark.parametrize(
    ("training", "named"),
    [
        (TrainingSummary(tokenizer_steps=7, dynamics_steps=7), False),
        (TrainingSummary(tokenizer_steps=7, dynamics_steps=7, val_gain=0.0), False),
        (TrainingSummary(tokenizer_steps=9_000, dynamics_steps=9_000, val_gain=0.1), False),
        (TrainingSummary(dynamics_steps=100, val_gain=6.0), True),  # fine-tuned
        (TrainingSummary(tokenizer_steps=9_000, dynamics_steps=9_000), True),
        (None, True),
    ],
)
def test_an_untrained_world_gets_neither_names_nor_keys(scroll, training, named):
    actions = propose_names(Evidence(scroll([(-2, 0), (2, 0), (0, 0)]), None, "val", training=training))
    expected = ["left", "right", "stay"] if named else ["action 0", "action 1", "action 2"]
    assert names(actions) == expected
    assert any(action.keys for action in actions) == named
    if not named:
        assert training is not None and training.describe() in actions[0].evidence


def test_keys_are_not_assigned_to_labels_without_an_effect():
    labels = [
        ActionLabel(("left",), 9, has_effect=False),
        ActionLabel(("left",), 1),
        ActionLabel(("jump",), 2, "", False),
    ]
    assert assign_keys(labels) == [[], ["ArrowLeft"], []]


# ------------------------------------------------------------------------------------ world folder


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


def test_names_chosen_by_the_user_are_kept():
    before = [
        ActionName(0, "hop", ("ArrowUp",)),
        ActionName(1, "action 1"),
        proposed(2, "left", ["ArrowLeft"], "old"),
        ActionName(3, "right", ("ArrowRight",), proposed(3, "left", ["ArrowLeft"], "old").proposal),
    ]
    proposals = [
        proposed(i, name, [key], "new") for i, (name, key) in enumerate([("left", "ArrowLeft"), ("up", "ArrowUp")])
    ]
    proposals += [proposed(2, "right", ["ArrowRight"], "new"), proposed(3, "down", [], "new")]
    after = keep_own(before, proposals)
    assert names(after) == ["hop", "up", "right (code 2)", "right"]
    assert [a.keys for a in after] == [("ArrowUp",), (), (), ("ArrowRight",)]
    assert [a.is_custom for a in after] == [True, False, False, True]
    assert [a.evidence for a in after] == ["new"] * 4


def test_names_survive_a_round_trip(folder):
    actions = [proposed(0, "ø: [left]", ["ArrowLeft", " "], "yes, no"), ActionName(1, "on"), ActionName(2, "1", ("a",))]
    save_actions(folder, actions)
    assert read_actions(folder, 3) == actions
    assert [a.is_custom for a in actions] == [False, True, True]
    with pytest.raises(UserError, match="names 3 actions"):
        World.from_pretrained(folder, "cpu")
    escape = 'actions: [{name: "\\e[31mred"}]'  # an escape sequence of the terminal
    for text in ("actions: [{name: a, proposed: 3}]", escape, "actions: [{name: 2024-13-45}]"):
        (folder / "actions.yaml").write_text(text)
        with pytest.raises(UserError, match=r"is invalid|is not valid YAML"):
            read_actions(folder, 1)


def test_names_survive_the_next_export(make_world, folder):
    before = read_actions(folder, 5)
    before[1], before[2] = ActionName(1, "hop", ("ArrowUp",)), proposed(2, "left", ["ArrowLeft"], "because")
    save_actions(folder, before)
    make_world(seed=1).save_pretrained(folder)
    after = read_actions(folder, 5)
    assert after[1] == before[1] and after[2] == ActionName(2, "action 2")
    save_actions(folder, before)
    World.from_pretrained(folder, "cpu").save_pretrained(folder)
    assert read_actions(folder, 5) == before


def test_naming_writes_the_file_and_prints_the_evidence(folder, data, capsys):
    written = run_naming(str(folder.parent), data.path, NamingSettings(prompts=4))
    output = capsys.readouterr().out
    assert "ground-truth actions of each latent action" in output and "consistency" in output
    assert str(folder / "actions.yaml") in output
    assert read_actions(folder, 5) == written and all(a.proposal for a in written)
    save_actions(folder, [written[0].renamed("mine"), *written[1:]])
    assert names(run_naming(str(folder), data.path, NamingSettings(prompts=4)))[0] == "mine"
    assert "kept 1 name(s) that you chose" in capsys.readouterr().out
    assert names(run_naming(str(folder), data.path, NamingSettings(prompts=4), force=True)) == names(written)


def test_names_of_a_world_without_latent_action_model(folder, data):
    (folder / "latent_action.safetensors").unlink()
    assert len(name_actions(World.from_pretrained(folder, "cpu"), data, NamingSettings(prompts=3), progress=False)) == 5


def test_training_clips_are_used_if_none_are_held_out(folder, tmp_path):
    with DatasetWriter(tmp_path / "short", height=12, width=10, fps=10) as writer:
        for split, frames in (("val", 2), ("train", 9)):
            writer.add_episode(np.zeros((frames, 12, 10, 3), np.uint8), source=split, split=split)
    evidence = gather(
        World.from_pretrained(folder, "cpu"),
        Dataset.open(tmp_path / "short"),
        NamingSettings(prompts=3),
        progress=False,
    )
    assert evidence.split == "train" and evidence.table is None


def test_invalid_arguments_are_refused(folder, data, tmp_path, make_world):
    with pytest.raises(UserError, match="at least 2"):
        run_naming(str(folder), data.path, NamingSettings(prompts=1))
    with DatasetWriter(tmp_path / "other", height=8, width=8, fps=10) as writer:
        writer.add_episode(np.zeros((9, 8, 8, 3), np.uint8), source="a", split="val")
    with pytest.raises(UserError, match="8x8"):
        run_naming(str(folder), tmp_path / "other")


def test_names_do_not_depend_on_the_global_random_generator(folder, data):
    world = World.from_pretrained(folder, "cpu")
    torch.manual_seed(5)
    one = name_actions(world, data, NamingSettings(prompts=3), progress=False)
    torch.manual_seed(6)
    assert name_actions(world, data, NamingSettings(prompts=3), progress=False) == one
