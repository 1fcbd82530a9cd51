from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_world import FRAMES, SIZE, episode, tiny_config, write_dataset

from djinn.config import TrainConfig
from djinn.data.loader import Loader, LoaderBatch
from djinn.models import VideoTokenizer
from djinn.train.loggers import read_metrics
from djinn.train.optimizer import build_optimizer
from djinn.train.precision import autocast
from djinn.train.stages import DynamicsStage, StepBatch, TokenizerStage
from djinn.train.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return write_dataset(tmp_path_factory.mktemp("data") / "squares")


def build(name: str, dataset, config: TrainConfig | None = None) -> TokenizerStage | DynamicsStage:
    config = config or tiny_config()
    torch.manual_seed(0)
    val = dataset.clips("val", FRAMES, FRAMES)
    if name == "tokenizer":
        return TokenizerStage(config, val, CPU)
    tokenizer = VideoTokenizer(config.world).train()
    clips = torch.from_numpy(dataset.clips("train", FRAMES, FRAMES).batch(np.arange(16)))
    for _ in range(20):  # the codebook converges to the latents
        tokenizer(clips.float() / 255)
    torch.manual_seed(0)
    return DynamicsStage(config, tokenizer, val, CPU)


def batches(dataset, count: int) -> list[LoaderBatch]:
    with Loader(dataset.clips("train", FRAMES, 2), 4, prefetch=False) as loader:
        return [next(loader) for _ in range(count)]


def with_draws(stage: TokenizerStage | DynamicsStage, batch: LoaderBatch, seed: int) -> StepBatch:
    draws = stage.draw(len(batch), torch.Generator().manual_seed(seed))
    return StepBatch(batch.indices, batch.video, draws)


def train(stage, batches: list[LoaderBatch], lr: float, warmup: int = 20) -> list[tuple[float, dict[str, float]]]:
    """Train a stage and return loss and metrics of each step."""
    optimizer = build_optimizer(stage.module, tiny_config().tokenizer)
    results = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / warmup)
        loss, metrics = stage.loss(with_draws(stage, batch, step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        results.append((loss.item(), {name: float(value) for name, value in metrics.items()}))
    return results


GOLDEN = {
    "tokenizer": [0.314343, 0.426353, 0.235244],
    "dynamics": [3.603497, 4.459277, 3.644474],
}


@pytest.mark.parametrize("name", ["tokenizer", "dynamics"])
def test_golden_losses(name: str, dataset) -> None:
    """The first losses depend on models, initialization, losses and the order of clips."""
    losses = [loss for loss, _ in train(build(name, dataset), batches(dataset, 3), lr=1e-2, warmup=1)]
    assert losses == pytest.approx(GOLDEN[name], rel=1e-4)


@pytest.mark.parametrize(("name", "lr"), [("tokenizer", 1e-2), ("dynamics", 5e-3)])
def test_stage_overfits_one_clip(name: str, lr: float, dataset) -> None:
    clip = LoaderBatch(torch.zeros(1, dtype=torch.int64), torch.from_numpy(episode(0, FRAMES))[None])
    metrics = [metrics for _, metrics in train(build(name, dataset), [clip] * 200, lr)]
    if name == "tokenizer":
        assert max(m["psnr"] for m in metrics[-20:]) > 35
    else:
        assert max(m["lam_psnr"] for m in metrics[-20:]) > 25
        assert np.mean([m["ce"] for m in metrics[-20:]]) < 0.3
        assert np.mean([m["accuracy"] for m in metrics[-20:]]) > 0.9


def test_no_gradient_flows_between_dynamics_and_latent_actions(dataset) -> None:
    """The latent action model's gradient in the joint loss is that of its own loss."""
    stage = build("dynamics", dataset)
    assert isinstance(stage, DynamicsStage)
    batch = with_draws(stage, batches(dataset, 1)[0], 0)
    stage.module.eval()  # so that the codebook is the same in both passes
    video = batch.video.float() / 255
    assert stage.latent_action(video).vectors.requires_grad

    loss, _ = stage.loss(batch)
    loss.backward()
    joint = {name: p.grad.clone() for name, p in stage.latent_action.named_parameters() if p.grad is not None}
    assert joint and any(g.abs().max() > 0 for g in joint.values())
    assert all(p.grad is not None for p in stage.world.dynamics.parameters())
    assert all(p.grad is None for p in stage.world.tokenizer.parameters())

    stage.module.zero_grad(set_to_none=True)
    out = stage.latent_action(video)
    ((out.prediction - video[:, 1:]).square().mean() + out.loss).backward()
    for name, p in stage.latent_action.named_parameters():
        if name in joint:
            assert p.grad is not None
            torch.testing.assert_close(p.grad, joint[name], msg=name)
    assert all(p.grad is None for p in stage.world.dynamics.parameters())


@pytest.mark.parametrize("name", ["tokenizer", "dynamics"])
def test_evaluation_writes_images_and_leaves_the_stage_unchanged(name: str, dataset, tmp_path: Path) -> None:
    stage = build(name, dataset)
    train(stage, batches(dataset, 2), 1e-3)
    stage.module.eval()
    before = {key: value.clone() for key, value in stage.module.state_dict().items()}
    with torch.no_grad():
        metrics, repeated = stage.evaluate(tmp_path, 7), stage.evaluate(tmp_path, 8)
    assert metrics == repeated
    assert all(torch.equal(value, before[key]) for key, value in stage.module.state_dict().items())
    image = Image.open(tmp_path / "images" / f"{name}-0000007.png")
    rows = {"tokenizer": 2, "dynamics": 3}[name]
    scale = round(96 / SIZE)
    assert image.height >= 4 * rows * scale * SIZE and image.width >= FRAMES * scale * SIZE
    assert (tmp_path / "images" / f"{name}-latest.png").exists()
    if name == "dynamics":
        assert metrics["val_gain"] == pytest.approx(
            metrics["val_rollout_psnr"] - metrics["val_rollout_random_psnr"], abs=1e-4
        )
        assert 0 <= metrics["val_action_bits"] <= 2 and metrics["val_frames"] == FRAMES - 1


def test_collapse_is_reported_once(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("djinn.train.collapse_warnings.MIN_STEPS", 1)
    config = tiny_config(steps=6, eval_every=2)
    stage = build("dynamics", dataset, config)
    monkeypatch.setattr(
        stage.module["latent_action"].quantizer, "_nearest", lambda flat, codes: torch.zeros(len(flat)).long()
    )
    clips = dataset.clips("train", FRAMES, 2)
    Trainer(stage, config.dynamics, config, lambda p: Loader(clips, 4, position=p, prefetch=False), tmp_path).run()
    warnings = [r for r in read_metrics(tmp_path) if "warning" in r]
    assert len(warnings) == 1 and "one code has 100%" in warnings[0]["warning"]
    assert capsys.readouterr().err.count("WARNING") == 1


def test_training_uses_the_tokens_of_play_under_autocast(dataset) -> None:
    stage = build("dynamics", dataset)
    assert isinstance(stage, DynamicsStage)
    batch = batches(dataset, 1)[0]
    with autocast(CPU, "bf16"):
        tokens = stage.prepare(with_draws(stage, batch, 0)).tokens
    assert torch.equal(tokens, stage.world.encode(batch.video))


def test_gradients_of_both_models_are_clipped_separately(dataset) -> None:
    stage = build("dynamics", dataset)
    ids = [{id(p) for p in module.parameters()} for module in stage.clip_groups]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {id(p) for p in stage.module.parameters()}


if __name__ == "__main__":  # prints the golden losses after an intended change
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        squares = write_dataset(Path(folder) / "squares")
        for kind in GOLDEN:
            results = train(build(kind, squares), batches(squares, 3), lr=1e-2, warmup=1)
            print(kind, [round(loss, 6) for loss, _ in results])
