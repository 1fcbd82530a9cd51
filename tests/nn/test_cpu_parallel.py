import threading

import pytest
import torch
from torch import nn

from djinn.nn import cpu_parallel
from djinn.nn.cpu_parallel import parallel_loss, torch_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(cpu_parallel, "MIN_ELEMENTS", 1)
    with torch_threads(2), torch.enable_grad():
        yield


def make_job(clips=5):
    """Return a model, clips, targets, a loss, and the set of threads that computed it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x, target = torch.randn(clips, 4, 6, requires_grad=True), torch.randn(clips, 4, 3)
    ran_in, barrier = set(), threading.Barrier(2)

    def loss(x, target, power):
        if threading.current_thread() is not threading.main_thread():
            barrier.wait(timeout=60)  # both threads run concurrently
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
def test_loss_and_gradients_are_equal_in_two_threads(clips):
    model, x, target, loss, ran_in = make_job(clips)
    results = []
    for serial in (True, False):
        run = (
            loss if serial else lambda x, target, power: parallel_loss(loss, model.parameters(), (x, target), (power,))
        )
        value, metric = run(2 * x, target, 3)
        assert not metric.requires_grad
        results.append([value.detach(), metric, *gradients(model, x, value / 7)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(ran_in) == 3  # the main thread, and two workers with one thread of torch each
    assert {count for name, count in ran_in if name != threading.current_thread().name} == {1}
    assert torch.get_num_threads() == 2


def test_frozen_parameters_have_no_gradient():
    model, x, target, loss, _ = make_job()
    model[0].requires_grad_(False)
    value, _ = parallel_loss(loss, model.parameters(), (x, target), (2,))
    expected, _ = loss(x, target, 2)
    ours = gradients(model, x, value)
    assert model[0].weight.grad is None and len(ours) == 3
    for a, b in zip(ours, gradients(model, x, expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_exception_of_a_thread_is_raised_and_the_thread_count_restored():
    model, x, target, *_ = make_job()

    def broken(x, target):
        raise ValueError("broken loss")

    with pytest.raises(ValueError, match="broken loss"):
        parallel_loss(broken, model.parameters(), (x, target))
    assert torch.get_num_threads() == 2


def test_threads_inherit_autocast():
    model, x, target, *_ = make_job()
    seen = []
    barrier = threading.Barrier(2)  # otherwise one thread may compute both parts

    def loss(x, target):
        if threading.current_thread() is not threading.main_thread():
            barrier.wait(60)
        output = model(x)
        seen.append((threading.current_thread().name, output.dtype))
        return (output.float() - target).square().sum(), torch.zeros(())

    with torch.autocast("cpu", torch.bfloat16):
        value, _ = parallel_loss(loss, model.parameters(), (x, target))
        expected, _ = loss(x, target)
    assert len({name for name, _ in seen}) == 3 and {dtype for _, dtype in seen} == {torch.bfloat16}
    ours, theirs = gradients(model, x, value), gradients(model, x, expected)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@pytest.mark.parametrize("reason", ["small", "one clip", "no gradient", "one thread"])
def test_loss_runs_in_the_calling_thread_when_threads_would_not_help(monkeypatch, reason):
    model, x, target, loss, ran_in = make_job(1 if reason == "one clip" else 4)
    if reason == "small":
        monkeypatch.setattr(cpu_parallel, "MIN_ELEMENTS", x.numel())
    if reason == "one thread":
        torch.set_num_threads(1)
    with torch.set_grad_enabled(reason != "no gradient"):
        parallel_loss(loss, model.parameters(), (x, target), (2,))
    assert {name for name, _ in ran_in} == {threading.current_thread().name}
