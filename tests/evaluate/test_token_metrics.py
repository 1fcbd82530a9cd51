import numpy as np
import pytest
import torch
import torch.nn.functional as F

from djinn.evaluate.clips import infer_actions, measuring
from djinn.evaluate.token_metrics import TokenScores
from djinn.models.masking import frame_mask


def scores(world, video, seed=0):
    """Of clips in two batches."""
    measured = TokenScores(world, seed)
    with measuring(world):
        for part in np.array_split(video, 2):
            measured.add(part, infer_actions(world, part))
    return measured.summary()


@pytest.fixture
def video():
    return np.random.default_rng(0).integers(0, 256, (6, 4, 12, 10, 3), np.uint8)


def test_a_world_that_knows_everything_and_one_that_ignores_its_actions(scripted, columns):
    clips = columns.clips("test", 5, stride=5)
    video = clips.batch(np.arange(50))
    known = scores(scripted(obeys=True), video)["full_frame"]
    assert known == {"accuracy": 1, "cross_entropy": 0, "tokens": 50 * 4}
    ignored = scores(scripted(obeys=False), video)["full_frame"]
    still = (video[:, 1:] == video[:, :-1]).all(axis=(2, 3, 4)).mean()
    assert ignored["accuracy"] == pytest.approx(still)
    assert ignored["cross_entropy"] == pytest.approx(1e4 * (1 - still))


@pytest.mark.parametrize("action", ["add", "prepend"])
def test_scores_are_those_of_the_whole_model(make_world, video, action):
    """The cached passes agree with whole passes over clips whose last frame alone is hidden."""
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
                        for place in torch.where(mask[row])[0]:
                            target = tokens[row, t, place]
                            nats = F.cross_entropy(logits[row, place][None], target[None])
                            found[name].append((float(nats), bool(logits[row, place].argmax() == target)))
    for name, values in found.items():
        assert result[name]["tokens"] == len(values)
        nats, right = np.mean(values, axis=0)
        assert result[name]["cross_entropy"] == pytest.approx(nats, abs=1e-4)
        assert result[name]["accuracy"] == pytest.approx(right)


def test_masks_are_seeded_and_those_of_training(make_world, video):
    world = make_world()
    assert scores(world, video, seed=1) == scores(world, video, seed=1)
    assert scores(world, video, seed=1)["masked"] != scores(world, video, seed=2)["masked"]
    assert scores(world, video, seed=1)["full_frame"] == scores(world, video, seed=2)["full_frame"]
    paper = scores(make_world(masking="paper"), video)
    assert paper["masked"]["tokens"] > paper["full_frame"]["tokens"] / 2  # at least half of every frame is hidden


def test_long_clips_are_cut_to_the_window(make_world):
    world = make_world(frames=3)
    video = np.random.default_rng(0).integers(0, 256, (4, 7, 12, 10, 3), np.uint8)
    assert scores(world, video)["full_frame"]["tokens"] == 4 * 2 * 9
