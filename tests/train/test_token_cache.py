from pathlib import Path

import pytest
import torch
from test_stages import batches, build
from training_world import FRAMES, write_dataset

from djinn.train.stages import DynamicsStage
from djinn.train.token_cache import MAX_BYTES, open_cache


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return write_dataset(tmp_path_factory.mktemp("data") / "squares")


def test_cached_tokens_are_those_of_the_tokenizer(dataset, tmp_path: Path) -> None:
    stage = build("dynamics", dataset)
    assert isinstance(stage, DynamicsStage)
    clips = dataset.clips("train", FRAMES, 2)
    shape = (len(clips), FRAMES, stage.config.tokens_per_frame)
    warnings: list[str] = []
    stage.cache = open_cache(tmp_path / "tokens", "a", shape, 32, warn=warnings.append)
    assert stage.cache is not None and not warnings
    calls = []
    encode = stage.world.tokenizer.encode
    stage.world.tokenizer.encode = lambda video: (calls.append(1), encode(video))[1]  # type: ignore[method-assign]
    for batch in [*batches(dataset, 2), *batches(dataset, 2)]:
        video = batch.video.float() / 255
        assert torch.equal(stage.tokens(batch.indices, video), encode(video))
    assert len(calls) == 2
    reopened = open_cache(tmp_path / "tokens", "a", shape, 32, warn=warnings.append)
    assert reopened is not None
    first = batches(dataset, 1)[0]
    assert torch.equal(reopened.tokens(first.indices, lambda: 1 / 0), encode(first.video.float() / 255))
    other = open_cache(tmp_path / "tokens", "b", shape, 32, warn=warnings.append)  # other tokenizer weights
    assert other is not None and [p.name for p in (tmp_path / "tokens").iterdir()] == ["train-b.npy"]
    other.remove()
    assert not (tmp_path / "tokens").exists()


def test_cache_that_would_be_too_large_is_not_created(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert open_cache(tmp_path / "t", "a", (MAX_BYTES, 1, 1), 1024, warn=warnings.append) is None
    assert open_cache(tmp_path / "t", "a", (8, 1, 1), 70_000, warn=warnings.append) is None
    assert "8.0 GiB" in warnings[0] and "16 bits" in warnings[1]
