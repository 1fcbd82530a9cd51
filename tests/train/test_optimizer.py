import pytest
import torch

from djinn.config import StageConfig
from djinn.train.ema import WeightAverage
from djinn.train.optimizer import build_optimizer


def test_weight_average_follows_its_formula() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.3)
    expected = 0.0
    for n in range(5):
        torch.nn.init.constant_(module.weight, float(n + 1))
        average.update(module)
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * (n + 1)
    assert average.average["weight"].item() == pytest.approx(expected)
    with average.applied(module):
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 5


def test_weight_decay_applies_to_matrices_only() -> None:
    module = torch.nn.ModuleDict(
        {"linear": torch.nn.Linear(2, 2), "norm": torch.nn.LayerNorm(2), "embed": torch.nn.Embedding(3, 2)}
    )
    decayed, other = build_optimizer(module, StageConfig(weight_decay=0.1)).param_groups
    assert [p.shape for p in decayed["params"]] == [(2, 2)] and decayed["params"][0] is module["linear"].weight
    assert decayed["weight_decay"] == 0.1 and other["weight_decay"] == 0
    assert len(other["params"]) == 4
