"""MaskGIT decoding: the schedule, the sampler, and the invariants of a frame's tokens."""

import itertools

import pytest
import torch

from djinn.config import SamplerConfig
from djinn.generate.maskgit import fill_frame, num_unmasked


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder:
    """Model with fixed logits that records its inputs."""

    def __init__(self, logits):
        self.logits = logits
        self.calls = []

    def __call__(self, tokens, masked, unknown):
        assert torch.equal(unknown.sort(1).values, masked.nonzero()[:, 1].view_as(unknown))
        self.calls.append((tokens.clone(), masked.clone()))
        return select(self.logits, unknown)


def select(logits, unknown):
    """Select the logits of some positions."""
    return logits.gather(1, unknown[..., None].expand(-1, -1, logits.shape[2]))


@pytest.mark.parametrize(("steps", "tokens"), [*itertools.product([1, 2, 3, 8, 25, 64, 300], [1, 2, 16, 64, 256, 920])])
def test_schedule_increases_to_all_tokens(steps, tokens):
    known = [num_unmasked(step, steps, tokens) for step in range(steps)]
    assert known[-1] == tokens
    assert known[0] >= 1
    used_steps = min(steps, tokens)
    assert known[used_steps - 1] == tokens
    assert all(a < b for a, b in itertools.pairwise(known[:used_steps]))
    assert all(k == tokens for k in known[used_steps:])


def test_schedule_is_a_cosine():
    assert [num_unmasked(k, 4, 64) for k in range(4)] == [5, 19, 40, 64]  # 64 - floor(64 cos(pi/2 * (k+1)/4))


@pytest.mark.parametrize(("steps", "tokens"), [(1, 16), (4, 16), (8, 64), (25, 64), (40, 16), (3, 1)])
def test_unmasked_tokens_follow_the_schedule_and_do_not_change(steps, tokens):
    predict = Recorder(torch.randn(3, tokens, 11, generator=generator(1)))
    result = fill_frame(predict, 3, tokens, SamplerConfig(steps=steps), generator(), "cpu")
    assert result.shape == (3, tokens)
    assert result.dtype == torch.int64
    assert len(predict.calls) == min(steps, tokens)
    assert predict.calls[0][1].all()
    for step, ((before, masked_before), (after, masked_after)) in enumerate(itertools.pairwise(predict.calls)):
        assert ((~masked_after).sum(1) == num_unmasked(step, steps, tokens)).all()
        assert not (masked_after & ~masked_before).any()  # unmasked tokens stay unmasked
        assert torch.equal(after[~masked_before], before[~masked_before])
    tokens_last, masked_last = predict.calls[-1]
    assert torch.equal(result[~masked_last], tokens_last[~masked_last])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_samples_follow_the_softmax(temperature):
    draws, logits = 20_000, torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -4.0])
    result = fill_frame(
        lambda tokens, masked, unknown: logits.expand(draws, 1, 6),
        draws,
        1,
        SamplerConfig(steps=1, temperature=temperature),
        generator(),
        "cpu",
    )
    expected = (logits / temperature).softmax(0) * draws
    observed = torch.bincount(result.flatten(), minlength=6)
    chi_square = ((observed - expected) ** 2 / expected).sum().item()
    assert chi_square < 20.5  # 0.1 % quantile at 5 degrees of freedom


def test_samples_are_independent_between_positions_and_rows():
    result = fill_frame(lambda t, m, u: torch.zeros(200, 50, 2), 200, 50, SamplerConfig(steps=1), generator(), "cpu")
    samples = result.float()
    assert abs(samples.mean().item() - 0.5) < 0.02
    assert samples.mean(0).std().item() < 0.06
    assert samples.mean(1).std().item() < 0.12


def test_temperature_0_is_argmax_for_any_seed():
    logits = torch.randn(2, 16, 32, generator=generator(5))
    sampler = SamplerConfig(steps=4, temperature=0.0)
    for seed in range(3):
        assert torch.equal(
            fill_frame(lambda t, m, u: select(logits, u), 2, 16, sampler, generator(seed), "cpu"), logits.argmax(-1)
        )
    tiny = SamplerConfig(steps=4, temperature=1e-30)
    assert torch.equal(
        fill_frame(lambda t, m, u: select(logits, u), 2, 16, tiny, generator(), "cpu"), logits.argmax(-1)
    )


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_top_k_samples_the_k_most_likely_tokens(top_k):
    logits = torch.randn(64, 16, 20, generator=generator(2)) * 0.1
    sampler = SamplerConfig(steps=3, temperature=5.0, top_k=top_k)
    result = fill_frame(lambda t, m, u: select(logits, u), 64, 16, sampler, generator(), "cpu")
    rank = (logits > logits.gather(2, result.unsqueeze(2))).sum(2)
    assert rank.max() < top_k
    assert len(rank.unique()) == min(top_k, 20)


def test_tokens_of_probability_0_are_never_sampled():
    logits = torch.full((500, 16, 8), -torch.inf)
    logits[..., [2, 5]] = 0.0
    result = fill_frame(lambda t, m, u: select(logits, u), 500, 16, SamplerConfig(steps=4), generator(), "cpu")
    assert set(result.unique().tolist()) == {2, 5}


def test_same_seed_gives_the_same_frame():
    logits = torch.randn(2, 32, 64, generator=generator(3))
    sampler = SamplerConfig(steps=6)
    first, repeated, other = (
        fill_frame(lambda t, m, u: select(logits, u), 2, 32, sampler, generator(seed), "cpu") for seed in (7, 7, 8)
    )
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)


def test_predict_receives_the_tokens_so_far():
    """The model predicts the number of unmasked tokens, so the result counts the steps."""

    def predict(tokens, masked, unknown):
        known = (~masked).sum(1)
        return torch.nn.functional.one_hot(known, 20).float().mul(100).unsqueeze(1).expand(-1, unknown.shape[1], -1)

    result = fill_frame(predict, 2, 16, SamplerConfig(steps=16, choice_temperature=0.0), generator(), "cpu")
    assert result.sort(1).values.tolist() == [list(range(16))] * 2


def test_most_confident_tokens_are_unmasked_first_without_noise():
    logits = torch.zeros(1, 6, 9)
    logits[0, :, 4] = torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0, 6.0])
    predict = Recorder(logits)
    fill_frame(predict, 1, 6, SamplerConfig(steps=6, temperature=0.0, choice_temperature=0.0), generator(), "cpu")
    order = [(a & ~b).nonzero()[0, 1].item() for (_, a), (_, b) in itertools.pairwise(predict.calls)]
    assert order == [5, 1, 4, 2, 3]


def test_confidence_does_not_depend_on_the_temperature():
    """At low temperatures confidences do not tie; the order is that at temperature 1."""
    logits = torch.randn(1, 16, 50, generator=generator(4))
    orders = []
    for temperature in (0.0, 0.01):
        predict = Recorder(logits)
        fill_frame(
            predict, 1, 16, SamplerConfig(steps=8, temperature=temperature, choice_temperature=0.0), generator(), "cpu"
        )
        orders.append([masked.tolist() for _, masked in predict.calls])
    assert orders[0] == orders[1]


def test_choice_temperature_shuffles_the_order():
    logits = torch.zeros(1, 16, 4)
    logits[0, torch.arange(16), 1] = torch.linspace(1, 3, 16)
    first = []
    for seed in range(30):
        predict = Recorder(logits)
        fill_frame(
            predict, 1, 16, SamplerConfig(steps=16, temperature=0.0, choice_temperature=4.0), generator(seed), "cpu"
        )
        first.append((~predict.calls[1][1]).nonzero()[0, 1].item())
    assert len(set(first)) > 5


def test_half_precision_logits():
    logits = torch.randn(2, 16, 32, generator=generator(6)).bfloat16()
    result = fill_frame(lambda t, m, u: select(logits, u), 2, 16, SamplerConfig(steps=4), generator(), "cpu")
    assert result.max() < 32
