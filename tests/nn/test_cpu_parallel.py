import threading

import pytest
import torch
from torch import nn

from djinn.nn import cpu_parallel as threads
from djinn.nn.cpu_parallel import parallel_loss, torch_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1)
    with torch_threads(2), torch.enable_grad():
        yield


def job(clips=5):
    """A model, its loss, clips and targets."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x, target = torch.randn(clips, 4, 6, requires_grad=True), torch.randn(clips, 4, 3)
    ran_in, both = set(), threading.Barrier(2)

    def loss(x, target, power):
        if threading.current_thread() is not threading.main_thread():
            both.wait(timeout=60)  # they do run side by side
        ran_in.add((threading.current_thread().name, torch.get_num_threads()))
        error = (model(x) - target).abs() ** power
        return error.sum(), (error.detach() < 0.5).sum()

    return model, x, target, loss, ran_in


def gradients(model, x, value):
    model.zero_grad()
    x.grad = None
    value.backward()
    return [x.grad.clone(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("clips", [2, 5])
def test_same_loss_and_gradients_in_two_threads(clips):
    model, x, target, loss, ran_in = job(clips)
    results = []
    for alone in (True, False):
        run = loss if alone else lambda x, target, power: parallel_loss(loss, model.parameters(), (x, target), (power,))
        value, figure = run(2 * x, target, 3)
        assert not figure.requires_grad
        results.append([value.detach(), figure, *gradients(model, x, value / 7)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(ran_in) == 3  # here, and one thread of torch in each of two of our own
    assert {count for name, count in ran_in if name != threading.current_thread().name} == {1}
    assert torch.get_num_threads() == 2


def test_frozen_weights_get_no_gradient():
    model, x, target, loss, _ = job()
    model[0].requires_grad_(False)
    value, _ = parallel_loss(loss, model.parameters(), (x, target), (2,))
    expected, _ = loss(x, target, 2)
    ours = gradients(model, x, value)
    assert model[0].weight.grad is None and len(ours) == 3
    for a, b in zip(ours, gradients(model, x, expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_error_comes_through_and_threads_are_as_before():
    model, x, target, *_ = job()

    def broken(x, target):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        parallel_loss(broken, model.parameters(), (x, target))
    assert torch.get_num_threads() == 2


def test_threads_compute_in_the_precision_around_them():
    model, x, target, *_ = job()
    seen = []
    together = threading.Barrier(2)  # or one thread may be done before the other has begun, and take its part too

    def loss(x, target):
        if threading.current_thread() is not threading.main_thread():
            together.wait(60)
        made = model(x)
        seen.append((threading.current_thread().name, made.dtype))
        return (made.float() - target).square().sum(), torch.zeros(())

    with torch.autocast("cpu", torch.bfloat16):
        value, _ = parallel_loss(loss, model.parameters(), (x, target))
        expected, _ = loss(x, target)
    assert len({name for name, _ in seen}) == 3 and {dtype for _, dtype in seen} == {torch.bfloat16}
    ours, theirs = gradients(model, x, value), gradients(model, x, expected)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@pytest.mark.parametrize("why", ["small", "one clip", "no gradient", "one thread"])
def test_torch_does_it_alone_where_that_is_better(monkeypatch, why):
    model, x, target, loss, ran_in = job(1 if why == "one clip" else 4)
    if why == "small":
        monkeypatch.setattr(threads, "LEAST", x.numel())
    if why == "one thread":
        torch.set_num_threads(1)
    with torch.set_grad_enabled(why != "no gradient"):
        parallel_loss(loss, model.parameters(), (x, target), (2,))
    assert {name for name, _ in ran_in} == {threading.current_thread().name}
