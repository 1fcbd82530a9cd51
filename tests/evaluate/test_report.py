import json

import numpy as np
import pytest
import torch
from PIL import Image

from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    TokenizerConfig,
    TransformerConfig,
    WorldConfig,
)
from djinn.errors import UserError
from djinn.evaluate.clips import draw_clips, measuring
from djinn.evaluate.commands import run
from djinn.evaluate.picture import Row, grid
from djinn.evaluate.report import evaluate, format_report, print_report
from djinn.models.world import World, build

PERFECT = 58.9


@pytest.fixture(scope="module")
def world() -> World:
    """A very small untrained world of real models."""
    torch.manual_seed(0)
    size = TransformerConfig(blocks=1, d_model=16, heads=2, head_dim=8)
    return build(
        WorldConfig(
            height=8,
            width=8,
            frames=4,
            tokenizer=TokenizerConfig(4, size, size, QuantizerConfig(codes=16, dim=4)),
            latent_action=LatentActionConfig(4, size, size, QuantizerConfig(codes=3, dim=4)),
            dynamics=DynamicsConfig(size),
            sampler=SamplerConfig(steps=2),
        )
    )


def test_a_world_that_obeys(scripted, columns):
    world = scripted(obeys=True)
    result = evaluate(world, columns, clips=24, horizon=6, progress=False)
    assert result["tokenizer_psnr"] > PERFECT
    assert result["rollout_psnr"]["mean"] > PERFECT
    assert len(result["rollout_psnr"]["by_horizon"]) == 6
    assert set(result["delta_psnr"]) == {"1", "2", "3", "4", "5", "6"}
    assert result["delta_psnr"]["4"]["low"] > 20
    assert result["repeat_psnr"]["mean"] < 40
    assert result["code_use"]["used"] == 4
    table = result["code_table"]
    assert table["moves"] == ["stay", "one", "two", "three"]
    assert table["reading"] == ["one", "three", "stay", "two"]
    assert table["overall"]["accuracy"] == 1
    assert table["overall"]["mutual_information_bits"] == pytest.approx(table["overall"]["move_entropy_bits"])
    assert table["changed"]["transitions"] == table["overall"]["transitions"] - sum(table["counts"][2])
    assert world.training and world.latent_action.training  # as it was before


def test_a_world_that_ignores_its_actions(scripted, columns):
    result = evaluate(scripted(obeys=False), columns, clips=24, horizon=6, progress=False)
    assert all(d == {"mean": 0, "low": 0, "high": 0} for d in result["delta_psnr"].values())
    assert result["rollout_psnr"] == result["repeat_psnr"] == result["random_psnr"]


def test_several_prompt_frames(scripted, columns):
    result = evaluate(scripted(obeys=True), columns, clips=5, horizon=3, prompt_frames=4, progress=False)
    assert result["rollout_psnr"]["mean"] > PERFECT
    assert result["protocol"]["clip_frames"] == 7


def test_the_protocol_is_complete_and_the_figures_are_plain_values(scripted, columns):
    settings = {"clips": 10, "horizon": 4, "seed": 3, "batch": 4, "progress": False}
    result = evaluate(scripted(obeys=True), columns, sampler=SamplerConfig(steps=5, temperature=2.0), **settings)
    protocol = result["protocol"]
    assert protocol["dataset_identity"] == columns.identity
    assert (protocol["clips"], protocol["split"], protocol["prompt_frames"]) == (10, "test", 1)
    assert protocol["sampler"] == {"steps": 5, "temperature": 2.0, "top_k": 0, "noise": 1.0}
    assert json.loads(json.dumps(result)) == result
    again = evaluate(scripted(obeys=True), columns, sampler=SamplerConfig(steps=5, temperature=2.0), **settings)
    assert again == result


def test_clips_do_not_overlap_while_there_are_enough(columns):
    assert draw_clips(columns, "test", 60, 8, seed=0).clips.stride == 8
    many = draw_clips(columns, "test", 150, 8, seed=0)
    assert many.clips.stride == 1
    assert len(many) == len(set(many.indices.tolist())) == 150
    assert len(draw_clips(columns, "test", 10**6, 8, seed=0)) == 20 * 33


def test_user_errors(scripted, columns, world):
    with pytest.raises(UserError, match="no split 'val'"):
        evaluate(scripted(obeys=True), columns, split="val", progress=False)
    with pytest.raises(UserError, match="61 frames; the longest has 40"):
        evaluate(scripted(obeys=True), columns, horizon=60, progress=False)
    with pytest.raises(UserError, match="clips must be at least 1"):
        evaluate(scripted(obeys=True), columns, clips=0, progress=False)
    blind = World(world.config)
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        evaluate(blind, columns, progress=False)
    large = scripted(obeys=True)
    large.config = WorldConfig(height=9, width=16)
    with pytest.raises(UserError, match="8x8, but the world makes 16x9"):
        evaluate(large, columns, progress=False)


def test_report_is_readable(scripted, columns, capsys):
    result = evaluate(scripted(obeys=True), columns, clips=8, horizon=5, progress=False)
    print_report(result)
    text = capsys.readouterr().out
    assert text.strip() == format_report(result).strip()
    for part in ("tokenizer PSNR", "roll-out PSNR", "delta-4 PSNR", "4 of 4 codes in use", "stay", "100.0 %", "seed 0"):
        assert part in text
    without = {**result, "code_table": None}
    assert "code" in format_report(without)


def test_a_real_world_by_the_command(world, columns, tmp_path, capsys):
    world.save_pretrained(tmp_path / "world")
    figures = run(
        str(tmp_path / "world"),
        columns.path,
        json=tmp_path / "out" / "figures.json",
        report=tmp_path / "report",
        clips=5,
        horizon=6,  # beyond the window of 4
        steps=3,
        temperature=0.5,
        batch=2,
        device="cpu",
    )
    assert figures["protocol"]["sampler"]["steps"] == 3
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == figures
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["results.json", "rollouts.png"]
    with Image.open(tmp_path / "report" / "rollouts.png") as picture:
        assert picture.width > 7 * 96
    assert "tokenizer PSNR" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_write(columns, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        run("anything", columns.path, report=tmp_path / "file")


def test_measuring_restores_each_module(world):
    world.train()
    world.tokenizer.eval()
    with measuring(world):
        assert not any(m.training for m in world.modules())
    assert world.training and world.dynamics.training and not world.tokenizer.training


def test_grid_keeps_pixels_and_labels_rows():
    video = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    picture = np.asarray(grid([Row("real", video), Row("made", video[:2], ["a", "b"], gap=True)], ["0", "1", "2"]))
    enlarged = video[1].repeat(2, 0).repeat(2, 1)
    places = np.argwhere((picture == enlarged[0, 0]).all(-1))
    assert any(
        np.array_equal(picture[y : y + 96, x : x + 128], enlarged)
        for y, x in places
        if y + 96 <= picture.shape[0] and x + 128 <= picture.shape[1]
    )
