import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_world import FRAMES, SIZE, episode, tiny_config, write_dataset

from djinn.config import TrainConfig
from djinn.data.loader import Loader, LoaderBatch
from djinn.models import VideoTokenizer
from djinn.train.collapse_warnings import diagnose_tokenizer, diagnose_world, in_words
from djinn.train.loggers import read_metrics
from djinn.train.optimizer import build_optimizer
from djinn.train.stages import TokenizerStage, WorldStage
from djinn.train.token_cache import LARGEST, open_cache
from djinn.train.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return write_dataset(tmp_path_factory.mktemp("data") / "squares")


def stage(name: str, dataset, config: TrainConfig | None = None) -> TokenizerStage | WorldStage:
    config = config or tiny_config()
    torch.manual_seed(0)
    val = dataset.clips("val", FRAMES, FRAMES)
    if name == "tokenizer":
        return TokenizerStage(config, val, CPU)
    tokenizer = VideoTokenizer(config.world).train()
    clips = torch.from_numpy(dataset.clips("train", FRAMES, FRAMES).batch(np.arange(16)))
    for _ in range(20):  # the codebook moves to where the vectors are
        tokenizer(clips.float() / 255)
    torch.manual_seed(0)
    return WorldStage(config, tokenizer, val, CPU)


def batches(dataset, count: int) -> list[LoaderBatch]:
    with Loader(dataset.clips("train", FRAMES, 2), 4, prefetch=False) as loader:
        return [next(loader) for _ in range(count)]


def learn(stage, batches: list[LoaderBatch], lr: float, warmup: int = 20) -> list[tuple[float, dict[str, float]]]:
    optimizer = build_optimizer(stage.module, tiny_config().tokenizer)
    generator = torch.Generator()
    seen = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / warmup)
        loss, logs = stage.loss(batch, generator.manual_seed(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append((loss.item(), {name: float(value) for name, value in logs.items()}))
    return seen


GOLDEN = {
    "tokenizer": [0.314343, 0.426353, 0.235244],
    "world": [3.603497, 4.459277, 3.644474],
}


@pytest.mark.parametrize("name", ["tokenizer", "world"])
def test_golden_losses(name: str, dataset) -> None:
    """The first losses of a fixed seed: any change of a model, its start, a loss or the order of clips shows here."""
    losses = [loss for loss, _ in learn(stage(name, dataset), batches(dataset, 3), lr=1e-2, warmup=1)]
    assert losses == pytest.approx(GOLDEN[name], rel=1e-4)


@pytest.mark.parametrize(("name", "lr"), [("tokenizer", 1e-2), ("world", 5e-3)])
def test_one_clip_is_learned_by_heart(name: str, lr: float, dataset) -> None:
    clip = LoaderBatch(torch.zeros(1, dtype=torch.int64), torch.from_numpy(episode(0, FRAMES))[None])
    seen = [logs for _, logs in learn(stage(name, dataset), [clip] * 200, lr)]
    if name == "tokenizer":
        assert max(logs["psnr"] for logs in seen[-20:]) > 35
    else:
        assert max(logs["lam_psnr"] for logs in seen[-20:]) > 25
        assert np.mean([logs["ce"] for logs in seen[-20:]]) < 0.3
        assert np.mean([logs["accuracy"] for logs in seen[-20:]]) > 0.9


def test_no_gradient_passes_between_dynamics_and_latent_actions(dataset) -> None:
    """Multiplying the cross-entropy by anything leaves the latent action model's gradient as it is, and vice versa."""
    world = stage("world", dataset)
    assert isinstance(world, WorldStage)
    batch, generator = batches(dataset, 1)[0], torch.Generator()
    world.module.eval()  # so that the codebook does not move between the two passes
    video = batch.video.float() / 255
    out = world.latent_action(video)
    assert out.vectors.requires_grad

    loss, _ = world.loss(batch, generator.manual_seed(0))
    loss.backward()
    together = {name: p.grad.clone() for name, p in world.latent_action.named_parameters() if p.grad is not None}
    assert together and any(g.abs().max() > 0 for g in together.values())
    assert all(p.grad is not None for p in world.world.dynamics.parameters())
    assert all(p.grad is None for p in world.world.tokenizer.parameters())

    world.module.zero_grad(set_to_none=True)
    out = world.latent_action(video)
    ((out.prediction - video[:, 1:]).square().mean() + out.loss).backward()
    for name, p in world.latent_action.named_parameters():
        if name in together:
            assert p.grad is not None
            torch.testing.assert_close(p.grad, together[name], msg=name)
    assert all(p.grad is None for p in world.world.dynamics.parameters())


@pytest.mark.parametrize("name", ["tokenizer", "world"])
def test_evaluation_leaves_pictures_and_the_stage_alone(name: str, dataset, tmp_path: Path) -> None:
    one = stage(name, dataset)
    learn(one, batches(dataset, 2), 1e-3)
    one.module.eval()
    before = {key: value.clone() for key, value in one.module.state_dict().items()}
    with torch.no_grad():
        figures, again = one.evaluate(tmp_path, 7), one.evaluate(tmp_path, 8)
    assert figures == again
    assert all(torch.equal(value, before[key]) for key, value in one.module.state_dict().items())
    picture = Image.open(tmp_path / "pictures" / f"{name}-0000007.png")
    rows = {"tokenizer": 2, "world": 3}[name]
    scale = round(96 / SIZE)
    assert picture.height >= 4 * rows * scale * SIZE and picture.width >= FRAMES * scale * SIZE
    assert (tmp_path / "pictures" / f"{name}-latest.png").exists()
    if name == "world":
        assert figures["val_gain"] == pytest.approx(
            figures["val_rollout_psnr"] - figures["val_rollout_random_psnr"], abs=1e-4
        )
        assert 0 <= figures["val_action_bits"] <= 2 and figures["val_frames"] == FRAMES - 1


FINE = {"val_action_top": 0.4, "val_actions_used": 8.0, "val_gain": 2.0}


def test_a_collapse_is_named_with_its_remedy() -> None:
    assert diagnose_world(FINE, 8, 5000, 0.9) is None
    top = diagnose_world({**FINE, "val_action_top": 0.95}, 8, 5000, 0.3)
    assert (
        top
        and "collapsed" in top
        and "--world.latent-action.quantizer.dead-code-threshold" in top
        and "--dynamics.lr" in top
    )
    for kind, remedy in (("gradient", "quantizer.kind ema"), ("fsq", "fewer levels")):
        said = diagnose_world({**FINE, "val_action_top": 0.95}, 8, 5000, 0.3, kind)
        assert said and remedy in said and "dead-code-threshold" not in said
    few = diagnose_world({**FINE, "val_actions_used": 3.0}, 8, 5000, 0.3)
    assert few and "only 3 of 8" in few and "commitment" in few
    idle = diagnose_world({**FINE, "val_gain": 0.05}, 8, 5000, 0.6)
    assert idle and "do nothing yet" in idle and "--minutes" in idle
    assert diagnose_world({**FINE, "val_gain": 0.05}, 8, 5000, 0.3) is None  # too early to tell
    assert diagnose_world({**FINE, "val_action_top": 1.0}, 8, 100, 0.9) is None
    dead = diagnose_tokenizer({"val_perplexity": 1.5}, 1024, 5000, 0.5)
    assert dead and "--world.tokenizer.quantizer.dead-code-threshold" in dead
    assert diagnose_tokenizer({"val_perplexity": 300.0}, 1024, 5000, 0.5) is None


def test_a_collapse_is_warned_of_once_and_recorded(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("djinn.train.collapse_warnings.EARLIEST_STEP", 1)
    config = tiny_config(steps=6, eval_every=2)
    world = stage("world", dataset, config)
    monkeypatch.setattr(
        world.module["latent_action"].quantizer, "_nearest", lambda flat, codes: torch.zeros(len(flat)).long()
    )
    clips = dataset.clips("train", FRAMES, 2)
    Trainer(world, config.dynamics, config, lambda p: Loader(clips, 4, position=p, prefetch=False), tmp_path).run()
    warnings = [r for r in read_metrics(tmp_path) if "warning" in r]
    assert len(warnings) == 1 and "one code has 100%" in warnings[0]["warning"]
    assert capsys.readouterr().err.count("WARNING") == 1


def test_gain_in_words() -> None:
    assert in_words(0.0) == "the latent actions do not act yet" and in_words(3.5).endswith("strongly")


def test_cached_tokens_are_those_of_the_tokenizer(dataset, tmp_path: Path) -> None:
    world = stage("world", dataset)
    assert isinstance(world, WorldStage)
    clips = dataset.clips("train", FRAMES, 2)
    shape = (len(clips), FRAMES, world.config.tokens_per_frame)
    said: list[str] = []
    world.cache = open_cache(tmp_path / "tokens", "a", shape, 32, say=said.append)
    assert world.cache is not None and not said
    encoded = []
    real = world.world.tokenizer.encode
    world.world.tokenizer.encode = lambda video: (encoded.append(1), real(video))[1]  # type: ignore[method-assign]
    for batch in [*batches(dataset, 2), *batches(dataset, 2)]:
        video = batch.video.float() / 255
        assert torch.equal(world.tokens(batch, video), real(video))
    assert len(encoded) == 2
    again = open_cache(tmp_path / "tokens", "a", shape, 32, say=said.append)
    assert again is not None
    first = batches(dataset, 1)[0]
    assert torch.equal(again.tokens(first.indices, lambda: 1 / 0), real(first.video.float() / 255))
    other = open_cache(tmp_path / "tokens", "b", shape, 32, say=said.append)  # other weights: begins anew
    assert other is not None and [p.name for p in (tmp_path / "tokens").iterdir()] == ["train-b.npy"]
    other.remove()
    assert not (tmp_path / "tokens").exists()


def test_a_cache_that_would_be_too_large_is_not_made(tmp_path: Path) -> None:
    said: list[str] = []
    assert open_cache(tmp_path / "t", "a", (LARGEST, 1, 1), 1024, say=said.append) is None
    assert open_cache(tmp_path / "t", "a", (8, 1, 1), 70_000, say=said.append) is None
    assert "8.0 GiB" in said[0] and "16 bits" in said[1]


def test_parts_are_clipped_apart(dataset) -> None:
    world = stage("world", dataset)
    ids = [{id(p) for p in part.parameters()} for part in world.parts]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {id(p) for p in world.module.parameters()}
    assert dataclasses.is_dataclass(world.config)


if __name__ == "__main__":  # prints the golden losses after a wanted change
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = write_dataset(Path(folder) / "squares")
        for kind in GOLDEN:
            print(kind, [round(loss, 6) for loss, _ in learn(stage(kind, made), batches(made, 3), lr=1e-2, warmup=1)])
