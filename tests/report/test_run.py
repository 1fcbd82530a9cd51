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
from djinn.evaluate.evaluation import evaluate
from djinn.evaluate.settings import DRIFT_FRAMES, EXAMPLES, EvaluationSettings
from djinn.models.world import World, build
from djinn.report.results import save_rollout_grid, write_results
from djinn.report.run import run_evaluation


@pytest.fixture(scope="module")
def world() -> World:
    """Build a very small untrained world of real models."""
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


def test_evaluation_of_a_real_world_writes_all_files(world, make_columns, tmp_path, capsys):
    columns = make_columns("few", splits=(("test", 2),))
    world.save_pretrained(tmp_path / "world")
    options = EvaluationSettings(
        clips=5,
        horizon=6,  # longer than the context of 4
        steps=3,
        temperature=0.5,
        batch=2,
        drift_frames=30,
        random_frechet=True,
    )
    results = run_evaluation(
        str(tmp_path / "world"),
        columns.path,
        options,
        json=tmp_path / "out" / "results.json",
        report=tmp_path / "report",
        device="cpu",
    ).summary()
    assert results["protocol"]["sampler"]["steps"] == 3
    assert results["random_frechet"] > 0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == results
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["report.html", "results.json", "rollouts.png"]
    assert "<html" in (tmp_path / "report" / "report.html").read_text()
    with Image.open(tmp_path / "report" / "rollouts.png") as image:
        assert image.width > 7 * 96
    assert "tokenizer PSNR" in capsys.readouterr().out


def test_a_report_has_examples_and_drift_by_default():
    options = EvaluationSettings().for_report()
    assert (options.examples, options.drift_frames) == (EXAMPLES, DRIFT_FRAMES)
    options = EvaluationSettings(examples=3, drift_frames=0).for_report()
    assert (options.examples, options.drift_frames) == (3, 0)


def test_targets_are_checked_before_the_work(columns, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file"):
        run_evaluation("no-such-world", columns.path, report=tmp_path / "file")
    with pytest.raises(UserError, match="cannot write"):
        run_evaluation("no-such-world", columns.path, json=tmp_path / "file" / "results.json")


def test_rollout_grid_has_the_number_of_examples(scripted, columns, tmp_path, monkeypatch):
    monkeypatch.setattr("djinn.report.results.write_report", lambda *_, **__: None)

    def grid_height(clips: int) -> int:
        options = EvaluationSettings(clips=clips, horizon=3, effect_prompts=0, examples=20)
        evaluation = evaluate(scripted(uses_actions=False), columns, options, progress=False)
        write_results(evaluation, tmp_path / str(clips), progress=False)
        save_rollout_grid(evaluation, tmp_path / f"{clips}.png")
        assert (tmp_path / f"{clips}.png").read_bytes() == (tmp_path / str(clips) / "rollouts.png").read_bytes()
        with Image.open(tmp_path / f"{clips}.png") as image:
            return np.asarray(image).shape[0]

    assert grid_height(20) == grid_height(40) > grid_height(3)
