import pytest
import torch

from djinn.models.code_usage import code_usage, entropy_bits, min_used_share


def test_usage_of_an_almost_collapsed_codebook() -> None:
    usage = code_usage(torch.tensor([98.0, 1.0, 1.0, 0.0]))
    assert usage.top_share == 0.98
    assert usage.num_used == 1
    assert 0 < usage.entropy_bits < 0.2


def test_uniform_usage_has_the_largest_entropy() -> None:
    assert code_usage(torch.ones(8)).entropy_bits == pytest.approx(3)
    assert entropy_bits(torch.tensor([7, 0])) == 0


def test_counts_of_no_codes_give_no_usage() -> None:
    usage = code_usage(torch.zeros(4))
    assert usage.num_used == 0 and usage.entropy_bits == 0


def test_min_used_share_falls_with_the_number_of_codes() -> None:
    assert [min_used_share(codes) for codes in (2, 8, 16)] == pytest.approx([0.02, 0.02, 0.01])
    assert min_used_share(1024) < 1 / 1024
