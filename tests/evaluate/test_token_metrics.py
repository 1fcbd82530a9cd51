import numpy as np
import pytest
import torch
import torch.nn.functional as F

from djinn.evaluate.inference import evaluation_mode, infer_actions
from djinn.evaluate.token_metrics import TokenMetrics, collapsed_text
from djinn.models.masking import frame_mask


def scores(world, video, seed=0):
    """Return the summary of clips in two batches."""
    metrics = TokenMetrics(world, seed)
    with evaluation_mode(world):
        for part in np.array_split(video, 2):
            metrics.add(part, infer_actions(world, part))
    return metrics.summary()


@pytest.fixture
def video():
    return np.random.default_rng(0).integers(0, 256, (6, 4, 12, 10, 3), np.uint8)


def test_scores_of_a_perfect_world_and_of_one_that_ignores_its_actions(scripted, columns):
    clips = columns.clips("test", 5, stride=5)
    video = clips.batch(np.arange(50))
    perfect = scores(scripted(uses_actions=True), video)["full_frame"]
    assert perfect == {"accuracy": 1, "cross_entropy": 0, "tokens": 50 * 4}
    ignoring = scores(scripted(uses_actions=False), video)["full_frame"]
    still = (video[:, 1:] == video[:, :-1]).all(axis=(2, 3, 4)).mean()
    assert ignoring["accuracy"] == pytest.approx(still)
    assert ignoring["cross_entropy"] == pytest.approx(1e4 * (1 - still))


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_scores_equal_those_of_full_passes(make_world, video, action):
    """Cached passes agree with full passes over clips in which only the last frame is masked."""
    world = make_world(action=action)
    result = scores(world, video)
    generator = torch.Generator().manual_seed(0)
    found = {"masked": [], "full_frame": []}
    for part in np.array_split(video, 2):
        with torch.inference_mode():
            tokens = world.encode(torch.from_numpy(part))
            vectors = world.action_vectors[world.infer_actions(torch.from_numpy(part))]
            masks = frame_mask(tokens.shape, generator, world.device)
            for t in range(1, tokens.shape[1]):
                for name, mask in (("masked", masks[:, t]), ("full_frame", torch.ones_like(masks[:, t]))):
                    hidden = torch.zeros_like(masks[:, : t + 1])
                    hidden[:, t] = mask
                    logits = world.dynamics(tokens[:, : t + 1], hidden, vectors[:, :t])[:, t]
                    for row in range(len(part)):
                        for position in torch.where(mask[row])[0]:
                            target = tokens[row, t, position]
                            nats = F.cross_entropy(logits[row, position][None], target[None])
                            found[name].append((float(nats), bool(logits[row, position].argmax() == target)))
    for name, values in found.items():
        assert result[name]["tokens"] == len(values)
        nats, accuracy = np.mean(values, axis=0)
        assert result[name]["cross_entropy"] == pytest.approx(nats, abs=1e-4)
        assert result[name]["accuracy"] == pytest.approx(accuracy)


def test_masks_are_seeded_and_follow_the_training_rates(make_world, video):
    world = make_world()
    assert scores(world, video, seed=1) == scores(world, video, seed=1)
    assert scores(world, video, seed=1)["masked"] != scores(world, video, seed=2)["masked"]
    assert scores(world, video, seed=1)["full_frame"] == scores(world, video, seed=2)["full_frame"]
    paper = scores(make_world(masking="paper"), video)
    # at least half of every frame is masked
    assert paper["masked"]["tokens"] > paper["full_frame"]["tokens"] / 2


def test_long_clips_are_truncated_to_the_context(make_world):
    world = make_world(frames=3)
    video = np.random.default_rng(0).integers(0, 256, (4, 7, 12, 10, 3), np.uint8)
    assert scores(world, video)["full_frame"]["tokens"] == 4 * 2 * 9


def test_a_collapsed_tokenizer_is_reported_instead_of_its_accuracy(scripted, columns, monkeypatch):
    world = scripted(uses_actions=True)
    video = columns.clips("test", 5, stride=5).batch(np.arange(8))
    with evaluation_mode(world):
        actions = infer_actions(world, video)
        monkeypatch.setattr(
            world.tokenizer, "encode", lambda video: torch.zeros(*video.shape[:2], 1, dtype=torch.int64)
        )
        metrics = TokenMetrics(world)
        metrics.add(video, np.full_like(actions, 2))  # the action that leaves the token unchanged
    summary = metrics.summary()
    assert summary["full_frame"]["accuracy"] == 1
    assert summary["codebook"] == {"codes": 8, "perplexity": 1, "collapsed": True}
    assert metrics.lines([]) == ["next tokens    n/a: the tokenizer has collapsed"]
    assert "1.00 of 8 codes" in collapsed_text(summary["codebook"])


def test_lines_show_the_perplexity_of_the_tokenizer(scripted, columns):
    world = scripted(uses_actions=True)
    video = columns.clips("test", 5, stride=5).batch(np.arange(50))
    metrics = TokenMetrics(world)
    with evaluation_mode(world):
        metrics.add(video, infer_actions(world, video))
    assert not metrics.collapsed and 7 < metrics.perplexity <= 8
    assert "accuracy 100.0 %" in metrics.lines([])[0] and "of 8" in metrics.lines([])[0]
