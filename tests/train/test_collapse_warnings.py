import pytest

from djinn.train.collapse_warnings import warn_dynamics, warn_tokenizer

HEALTHY = {"val_action_top": 0.4, "val_actions_used": 8.0, "val_gain": 2.0}
COLLAPSED = {**HEALTHY, "val_action_top": 0.95}
NO_EFFECT = {**HEALTHY, "val_gain": 0.05}


def test_healthy_metrics_give_no_warning() -> None:
    assert warn_dynamics(HEALTHY, 8, 5000, 0.9) is None
    assert warn_tokenizer({"val_perplexity": 300.0}, 1024, 5000, 0.5) is None


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("ema", "--world.latent-action.quantizer.dead-code-threshold"),
        ("gradient", "quantizer.kind ema"),
        ("fsq", "fewer levels"),
    ],
)
def test_collapse_is_reported_with_the_remedy_of_the_quantizer(kind: str, remedy: str) -> None:
    warning = warn_dynamics(COLLAPSED, 8, 5000, 0.3, kind=kind)
    assert warning and "collapsed" in warning and remedy in warning and "--dynamics.lr" in warning
    assert ("dead-code-threshold" in warning) == (kind == "ema")


def test_dead_actions_are_counted() -> None:
    warning = warn_dynamics({**HEALTHY, "val_actions_used": 3.0}, 8, 5000, 0.3)
    assert warning and "only 3 of 8" in warning and "commitment" in warning


def test_missing_effect_is_reported_in_the_second_half_of_training() -> None:
    warning = warn_dynamics(NO_EFFECT, 8, 5000, 0.6)
    assert warning and "no effect yet" in warning and "--minutes" in warning
    assert warn_dynamics(NO_EFFECT, 8, 5000, 0.3) is None


def test_no_warning_in_the_first_steps() -> None:
    assert warn_dynamics({**HEALTHY, "val_action_top": 1.0}, 8, 100, 0.9) is None
    assert warn_tokenizer({"val_perplexity": 1.5}, 1024, 100, 0.9) is None


@pytest.mark.parametrize("metrics", [COLLAPSED, {**HEALTHY, "val_actions_used": 3.0}, NO_EFFECT])
def test_undertrained_tokenizer_is_named_before_other_remedies(metrics: dict[str, float]) -> None:
    warning = warn_dynamics(metrics, 8, 5000, 0.9, tokenizer_steps=7)
    assert warning and "the tokenizer was trained for 7 steps only" in warning and "--minutes" in warning
    assert "dead-code-threshold" not in warning and "--dynamics.lr" not in warning


def test_collapsed_tokenizer_is_reported() -> None:
    warning = warn_tokenizer({"val_perplexity": 1.5}, 1024, 5000, 0.5)
    assert warning and "--world.tokenizer.quantizer.dead-code-threshold" in warning
