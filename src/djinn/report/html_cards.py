"""Overview of the HTML report: warnings, and one card per metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from djinn.evaluate.action_usage import COLLAPSED
from djinn.evaluate.text import percent
from djinn.evaluate.token_metrics import collapsed_text
from djinn.report.html_clips import FLAGS
from djinn.report.html_parts import warnings
from djinn.report.markup import Html, join, tag


def overview(results: dict[str, Any]) -> Html:
    """Return warnings that concern all metrics, and the cards."""
    return join(warnings(_warnings(results)), tag("div", *_cards(results), class_="cards"))


def _warnings(results: dict[str, Any]) -> list[str]:
    sentences = []
    if (results.get("action_usage") or {}).get("collapsed"):
        sentences.append(f"{COLLAPSED}.")
    codebook = (results.get("tokens") or {}).get("codebook") or {}
    if codebook.get("collapsed"):
        sentences.append(f"{collapsed_text(codebook)}.")
    return sentences


def _cards(results: dict[str, Any]) -> Iterator[Html]:
    protocol = results.get("protocol") or {}
    clips, horizon = protocol.get("clips", "?"), protocol.get("horizon", "?")
    yield _controllability(results, clips)
    repeat = ((results.get("rollout") or {}).get("repeat") or {}).get("psnr")
    yield _card(
        "Roll-out PSNR",
        _number(results.get("rollout_psnr"), 1, " dB"),
        "Similarity of generated frames with inferred actions to the real frames. Higher is better."
        + (f" Repeating the prompt: {sum(repeat) / len(repeat):.1f} dB." if repeat else ""),
        f"Mean over {horizon} frames of {clips} clips, actions inferred from the real clip",
    )
    yield _card(
        "Roll-out SSIM",
        _number(results.get("rollout_ssim"), 3),
        "Structural similarity of the same frames. 1 is identical. It is more sensitive to blur than PSNR.",
        "Gaussian window of sigma 1.5",
    )
    ssim = results.get("tokenizer_ssim")
    yield _card(
        "Tokenizer PSNR",
        _number(results.get("tokenizer_psnr"), 1, " dB"),
        "Similarity of encoded and decoded real frames to the original. It is an upper bound for roll-outs.",
        f"All frames of the same clips{'' if ssim is None else f'; SSIM {ssim:.3f}'}",
    )
    usage = results.get("action_usage") or {}
    yield _card(
        "Actions in use",
        f"{usage['num_used']} of {len(usage['shares'])}" if usage else None,
        "Latent actions that occur in real videos. The effect of a code that never occurs is not trained.",
        f"At least {percent(usage['min_share'])} of {usage['transitions']:,} transitions; "
        f"perplexity {usage['perplexity']:.1f}"
        if usage
        else "",
    )
    effects = results.get("action_effects") or {}
    yield _card(
        "Consistency of actions",
        _number(effects.get("consistency"), 2),
        "Whether an action has the same effect from different prompts. 1: always the same motion, 0: chance.",
        f"Share of the flow that the action explains, over {effects['prompts']} prompts and {effects['frames']} frames"
        if {"prompts", "frames"} <= effects.keys()
        else "",
    )
    drift = results.get("drift") or {}
    faults = [FLAGS.get(flag, (flag,))[0] for flag in drift.get("flags") or []]
    yield _card(
        "Drift",
        (", ".join(faults) or "no fault") if drift else None,
        "Whether long roll-outs freeze, blur, lose their colors or repeat themselves.",
        f"{drift['rollouts']} roll-outs of {drift['frames']} frames, random actions held for {drift['hold']} frames "
        "on average"
        if {"rollouts", "frames", "hold"} <= drift.keys()
        else "",
    )
    yield _card(
        "FVD",
        _number(results.get("fvd"), 0),
        "Distance between the features of real and generated clips in a video network. Lower is better.",
        "Comparable only for the same network, number and length of clips" if results.get("fvd") is not None else "",
    )


def _controllability(results: dict[str, Any], clips: Any) -> Html:
    delta = results.get("delta_psnr") or {}
    if not delta:
        return _card("Controllability", None, "The effect of the actions was not measured.", "")
    t = "4" if "4" in delta else max(delta, key=int)
    name = f"Controllability, Δ{t} PSNR"
    if (results.get("action_usage") or {}).get("collapsed"):
        return _card(name, "n/a", "The latent actions have collapsed: almost all have one code.", "")
    low, high = (results.get("delta_psnr_interval") or {}).get(t) or (None, None)
    empirical = (results.get("delta_psnr_empirical") or {}).get(t)
    return _card(
        name,
        _number(delta[t], 1, " dB"),
        f"How much closer generated frame {t} is to the real one with inferred actions than with random actions. At 0 "
        "the actions have no effect.",
        f"{clips} clips, uniform random actions"
        + ("" if low is None else f"; 95 % interval {low:.1f} to {high:.1f} dB, bootstrap over clips")
        + ("" if empirical is None else f". Against actions drawn as often as inferred: {empirical:.1f} dB"),
    )


def _card(name: str, value: str | None, meaning: str, protocol: str) -> Html:
    shown = tag("p", value, class_="value") if value else tag("p", "not measured", class_="value none")
    small = tag("p", protocol + ("" if protocol.endswith(".") else "."), class_="small") if protocol else Html()
    return tag("div", tag("h3", name), shown, tag("p", meaning), small, class_="card")


def _number(value: float | None, digits: int, unit: str = "") -> str | None:
    return None if value is None else f"{value:.{digits}f}{unit}"
