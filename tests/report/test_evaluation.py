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
from djinn.evaluate.clips import draw_clips, measuring, pick_split, spread_over_sources
from djinn.evaluate.fidelity import psnr
from djinn.models.world import World, build
from djinn.report.commands import run
from djinn.report.evaluation import evaluate
from djinn.report.text_report import format_report, print_report

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
            context_frames=4,
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
    assert result["rollout_psnr"] > PERFECT
    assert result["tokenizer_ssim"] == result["rollout_ssim"] == pytest.approx(1)
    rollout = result["rollout"]
    assert all(len(rollout[key][kind]) == 6 for key in ("inferred", "random", "repeat") for kind in ("psnr", "ssim"))
    assert np.mean(rollout["repeat"]["psnr"]) < 40
    assert np.mean(rollout["repeat"]["ssim"]) < 0.9
    for key in ("delta_psnr", "delta_psnr_empirical"):
        assert list(result[key]) == list(result[f"{key}_interval"]) == ["1", "2", "3", "4", "5", "6"]
        low, high = result[f"{key}_interval"]["4"]
        assert 20 < low < result[key]["4"] < high
    assert result["code_use"]["used"] == 4
    table = result["code_table"]
    assert table["moves"] == ["stay", "one", "two", "three"]
    assert table["reading"] == ["one", "three", "stay", "two"]
    assert table["overall"]["accuracy"] == 1
    assert table["overall"]["mutual_information_bits"] == pytest.approx(table["overall"]["move_entropy_bits"])
    assert table["changed"]["transitions"] == table["overall"]["transitions"] - sum(table["counts"][2])
    assert result["tokens"]["full_frame"] == {"accuracy": 1, "cross_entropy": 0, "tokens": 24 * 4}
    assert result["effects"]["prompts"] == 12
    assert len(result["effects"]["codes"]) == 4
    assert result["drift"] is result["fvd"] is result["fvd_protocol"] is result["random_frechet"] is None
    assert world.training and world.latent_action.training  # as it was before


def test_a_world_that_ignores_its_actions(scripted, columns):
    result = evaluate(scripted(obeys=False), columns, clips=24, horizon=6, progress=False)
    for key in ("delta_psnr", "delta_psnr_empirical"):
        assert set(result[key].values()) == {0}
        assert set(map(tuple, result[f"{key}_interval"].values())) == {(0, 0)}
    assert result["rollout"]["inferred"] == result["rollout"]["repeat"] == result["rollout"]["random"]
    assert result["effects"]["consistency"] == 0
    assert result["tokens"]["full_frame"]["accuracy"] < 0.9


def test_empirical_actions_are_drawn_as_they_occur(scripted, make_columns):
    """Where the player always did the same, as often as it occurs is always right, and uniformly seldom."""
    result = evaluate(
        scripted(obeys=True), make_columns("alike", actions=[1]), clips=8, horizon=3, effect_prompts=0, progress=False
    )
    assert result["code_use"]["used"] == 1
    assert set(result["delta_psnr_empirical"].values()) == {0}
    assert min(result["delta_psnr"].values()) > 10
    assert result["effects"] is None


def test_several_prompt_frames(scripted, columns):
    result = evaluate(scripted(obeys=True), columns, clips=5, horizon=3, prompt_frames=4, progress=False)
    assert result["rollout_psnr"] > PERFECT
    assert result["protocol"]["clip_frames"] == 7


def test_the_protocol_is_complete_and_the_figures_are_plain_values(scripted, columns):
    settings = {"clips": 10, "horizon": 4, "seed": 3, "batch": 4, "progress": False}
    settings |= {"drift_frames": 30, "random_frechet": True, "name": "mine"}
    result = evaluate(scripted(obeys=True), columns, sampler=SamplerConfig(steps=5, temperature=2.0), **settings)
    protocol = result["protocol"]
    assert protocol["dataset_identity"] == columns.identity
    assert (protocol["world"], protocol["resolution"], protocol["fps"]) == ("mine", "8x8", 10)
    assert (protocol["clips"], protocol["split"], protocol["prompt_frames"]) == (10, "test", 1)
    assert protocol["sampler"] == {"steps": 5, "temperature": 2.0, "top_k": 0, "choice_temperature": 1.0}
    assert "7x7" in protocol["ssim"]  # what fits into these frames
    assert protocol["random_frechet"]["clips"] == 10
    assert result["drift"]["frames"] == 30
    assert result["random_frechet"] == pytest.approx(0, abs=1e-9)
    assert json.loads(json.dumps(result)) == result
    again = evaluate(scripted(obeys=True), columns, sampler=SamplerConfig(steps=5, temperature=2.0), **settings)
    assert again == result


def test_fvd_by_a_network_of_the_user(scripted, columns, tmp_path, monkeypatch):
    (tmp_path / "moments.py").write_text("def of(video):\n    return video.diff(dim=2).abs().mean((3, 4)).flatten(1)\n")
    monkeypatch.chdir(tmp_path)
    settings = {"clips": 30, "horizon": 3, "effect_prompts": 0, "progress": False, "fvd_detector": "moments:of"}
    good, bad = (evaluate(scripted(obeys=obeys), columns, **settings) for obeys in (True, False))
    assert good["fvd"] == pytest.approx(0, abs=1e-6)
    assert bad["fvd"] > 1
    protocol = good["fvd_protocol"]
    assert (protocol["detector"], protocol["clips"], protocol["features"]) == ("moments:of", 30, 9)
    assert (protocol["clip_frames"], protocol["frame_stride"], protocol["clip_stride"]) == (4, 1, 4)
    assert protocol["resolution"] == "8x8"
    text = format_report(bad)
    assert "FVD" in text
    assert "30 clips are few" in text
    assert "FVD" not in format_report({**bad, "fvd": None, "random_frechet": None})


def test_clips_do_not_overlap_while_there_are_enough(columns):
    assert draw_clips(columns, "test", 60, 8, seed=0).clips.stride == 8
    many = draw_clips(columns, "test", 150, 8, seed=0)
    assert many.clips.stride == 1
    assert len(many) == len(set(many.indices.tolist())) == 150
    assert len(draw_clips(columns, "test", 10**6, 8, seed=0)) == 20 * 33


def test_the_report_shows_unpicked_clips_of_different_sources(scripted, columns, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("djinn.report.evaluation.write_report", lambda _, __, pictures, **___: written.append(pictures))
    settings = {"horizon": 3, "effect_prompts": 0, "drift_frames": 0, "batch": 7, "progress": False}
    result = evaluate(scripted(obeys=False), columns, **settings, clips=120, report=tmp_path / "report")
    shown = result["protocol"]["shown"]
    assert len({clip["source"] for clip in shown}) == len(shown) == 20
    assert {clip["episode"] for clip in shown} == {None}
    sample = draw_clips(columns, "test", 120, 4, seed=0)
    first = list(dict.fromkeys(sample.sources))  # the order in which each is met
    assert [clip["source"] for clip in shown] == first
    clips = written[0].shown
    episodes = {e.source: columns.read(e) for e in columns.episodes}
    for i, clip in enumerate(shown):
        assert np.array_equal(clips.real[i], episodes[clip["source"]][clip["start"] :][:4])
        assert clip["psnr"] == pytest.approx(psnr(clips.real[i, 1:], clips.inferred[i, 1:]).mean())
    with Image.open(tmp_path / "report" / "rollouts.png") as picture:
        four = picture.height
    few = evaluate(scripted(obeys=False), columns, **settings, clips=3, shown=5, report=tmp_path / "report")
    assert len(few["protocol"]["shown"]) == 3  # there are no more
    with Image.open(tmp_path / "report" / "rollouts.png") as picture:
        assert picture.height < four
    one = evaluate(scripted(obeys=False), columns, **settings, clips=60, shown=1, report=tmp_path / "report")
    assert one["protocol"]["shown"] == shown[:1]
    assert len(written[-1].shown.real) == 1
    assert evaluate(scripted(obeys=False), columns, **settings, clips=2)["protocol"]["shown"] == []


def test_the_picture_is_the_same_with_and_without_a_report(scripted, make_columns, tmp_path, monkeypatch):
    monkeypatch.setattr("djinn.report.evaluation.write_report", lambda *_, **__: None)
    few = make_columns("few", splits=(("test", 2),))
    drawn = (draw_clips(few, "test", 12, 4, seed).sources for seed in range(20))
    seed = next(
        i for i, sources in enumerate(drawn) if spread_over_sources(sources, 4) != spread_over_sources(sources, 20)[:4]
    )
    settings = {"horizon": 3, "clips": 12, "batch": 5, "seed": seed}  # the first four of 20 would be others
    settings |= {"effect_prompts": 0, "drift_frames": 0, "progress": False}
    result = evaluate(scripted(obeys=False), few, **settings, picture=tmp_path / "alone.png")
    assert len(result["protocol"]["shown"]) == 4
    for shown in ({}, {"shown": 1}):
        folder = tmp_path / f"report{len(shown)}"
        evaluate(scripted(obeys=False), few, **settings, **shown, report=folder, picture=tmp_path / "beside.png")
        for other in (folder / "rollouts.png", tmp_path / "beside.png"):
            assert other.read_bytes() == (tmp_path / "alone.png").read_bytes()


def test_user_errors(scripted, columns, world, tmp_path):
    with pytest.raises(UserError, match="no split 'val'"):
        evaluate(scripted(obeys=True), columns, split="val", progress=False)
    with pytest.raises(UserError, match="61 frames; the longest has 40"):
        evaluate(scripted(obeys=True), columns, horizon=60, progress=False)
    with pytest.raises(UserError, match="clips must be at least 1"):
        evaluate(scripted(obeys=True), columns, clips=0, progress=False)
    for wrong, least in (({"effect_prompts": 1}, 2), ({"drift_frames": 5}, 24)):
        with pytest.raises(UserError, match=f"must be 0 or at least {least}"):
            evaluate(scripted(obeys=True), columns, **wrong, progress=False)
    with pytest.raises(UserError, match="at least 2 clips: raise --clips"):
        evaluate(scripted(obeys=True), columns, clips=1, random_frechet=True, progress=False)
    with pytest.raises(UserError, match="code_clips must be at least 1"):
        evaluate(scripted(obeys=True), columns, code_clips=0, progress=False)
    with pytest.raises(UserError, match="shown must be at least 1"):
        evaluate(scripted(obeys=True), columns, shown=0, report=tmp_path / "report", progress=False)
    with pytest.raises(UserError, match="--shown 20 is for a report"):
        evaluate(scripted(obeys=True), columns, shown=20, picture=tmp_path / "picture.png", progress=False)
    with pytest.raises(UserError, match=r"no detector nowhere\.pt"):
        evaluate(scripted(obeys=True), columns, fvd_detector="nowhere.pt", progress=False)
    blind = World(world.config)
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        evaluate(blind, columns, progress=False)
    large = scripted(obeys=True)
    large.config = WorldConfig(height=9, width=16)
    with pytest.raises(UserError, match="8x8, but the world makes 16x9"):
        evaluate(large, columns, progress=False)


@pytest.mark.parametrize(
    ("splits", "asked", "picked"),
    [
        ((("train", 1), ("val", 1), ("test", 1)), None, "test"),
        ((("train", 1), ("val", 1)), None, "val"),
        ((("train", 1), ("val", 1)), "train", "train"),
        ((("train", 1),), None, "test"),  # refused then: what was trained on is measured on request only
    ],
)
def test_the_split_that_is_measured_on(make_columns, splits, asked, picked):
    assert pick_split(make_columns("some", splits=splits, frames=8), asked) == picked


def test_too_few_clips(scripted, make_columns):
    single = make_columns("single", splits=(("test", 1),), frames=8)
    with pytest.raises(UserError, match="single clip of 8 frames, and measuring needs two or more: ask for shorter"):
        evaluate(scripted(obeys=True), single, horizon=7, progress=False)
    result = evaluate(scripted(obeys=True), single, horizon=3, effect_prompts=2, progress=False)
    assert (result["protocol"]["clips"], result["protocol"]["clips_asked"]) == (5, 64)
    assert "64 clips were asked for" in format_report(result)


def test_report_is_readable(scripted, columns, capsys):
    settings = {"clips": 8, "horizon": 5, "random_frechet": True, "drift_frames": 30, "progress": False}
    result = evaluate(scripted(obeys=True), columns, **settings)
    print_report(result)
    text = capsys.readouterr().out
    assert text.strip() == format_report(result).strip()
    for part in (
        "tokenizer PSNR",
        "roll-out PSNR",
        "SSIM 1.000",
        "delta-4 PSNR",
        "as they occur",
        "100.0 % right",
        "no FVD",
        "4 of 4 codes in use",
        "stay",
        "100.0 %",
        "consistency",
        "long games of 30 frames",
        "seed 0",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 160
    without = {**result, "code_table": None, "effects": None, "drift": None}
    assert "code" in format_report(without)


def test_a_real_world_by_the_command(world, make_columns, tmp_path, capsys):
    columns = make_columns("few", splits=(("test", 2),))
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
        drift_frames=30,
        random_frechet=True,
        device="cpu",
    )
    assert figures["protocol"]["sampler"]["steps"] == 3
    assert figures["random_frechet"] > 0
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == figures
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["report.html", "results.json", "rollouts.png"]
    assert "<html" in (tmp_path / "report" / "report.html").read_text()
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
