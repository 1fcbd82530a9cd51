"""Sections of the HTML report on quality: by horizon, over long roll-outs, by token, and FVD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from djinn.evaluate.token_metrics import collapsed_text
from djinn.report.charts import Line, line_chart
from djinn.report.html_parts import flatten, missing, warnings
from djinn.report.markup import Html, join, table, tag

_LABELS = {"inferred": "inferred actions", "random": "random actions", "repeat": "repeated prompt"}


def horizon(results: dict[str, Any]) -> Html:
    """Return PSNR, SSIM and controllability by the number of generated frames."""
    rollout = results.get("rollout") or {}
    if not rollout:
        return missing("Roll-outs were not measured.")
    charts = []
    for key, title in (("psnr", "PSNR in dB, higher is better"), ("ssim", "SSIM, higher is better")):
        lines = [
            Line(label, rollout[kind][key], kind)
            for kind, label in _LABELS.items()
            if (rollout.get(kind) or {}).get(key)
        ]
        if lines:
            charts.append(line_chart(key, title, lines, x_label="generated frame"))
    lines = []
    for suffix, label, color in (("", "uniform random", "delta"), ("_empirical", "as often as inferred", "random")):
        if values := results.get(f"delta_psnr{suffix}"):
            band = results.get(f"delta_psnr{suffix}_interval") or {}
            edges = [[band[t][side] for t in values] if set(values) <= band.keys() else None for side in (0, 1)]
            lines.append(Line(label, list(values.values()), color, *edges))
    if lines:
        title = "Δ PSNR in dB: inferred over random actions, with 95 % interval"
        charts.append(line_chart("delta", title, lines, x_label="generated frame", threshold=0))
    reading = (
        "All roll-outs start from the same real frames. The gap between inferred and random actions is the effect of the "
        "actions. A world that is worse than the repeated prompt does not predict the motion."
    )
    return join(tag("p", reading), tag("div", *charts, class_="charts"), _numbers(results, rollout))


def _numbers(results: dict[str, Any], rollout: dict[str, Any]) -> Html:
    """Return the curves as a table."""
    columns: list[tuple[str, Sequence[float]]] = []
    for kind, label in _LABELS.items():
        for key, unit in (("psnr", "PSNR"), ("ssim", "SSIM")):
            if values := (rollout.get(kind) or {}).get(key):
                columns.append((f"{unit}, {label}", values))
    if delta := results.get("delta_psnr"):
        columns.append(("Δ PSNR", list(delta.values())))
    if not columns:
        return Html()
    frames = min(len(values) for _, values in columns)
    rows = [
        [str(t + 1), *(f"{values[t]:.3f}" if "SSIM" in name else f"{values[t]:.2f}" for name, values in columns)]
        for t in range(frames)
    ]
    head = ["frame", *(name for name, _ in columns)]
    listed = table("Mean over clips, by generated frame", head, rows, class_="numbers")
    return tag("details", tag("summary", "Values"), listed)


def long_rollouts(results: dict[str, Any]) -> Html:
    """Return the similarity to the real video over long roll-outs."""
    found = results.get("long_rollouts") or {}
    if not found:
        return missing(
            "Long roll-outs were not measured. With djinn eval --long-rollouts 100, 100 frames are generated with the "
            "actions inferred from the real video."
        )
    curves = (("psnr", "inferred"), ("random_psnr", "random"), ("repeat_psnr", "repeat"))
    lines = [Line(_LABELS[kind], found[f"{key}_curve"], kind) for key, kind in curves if found.get(f"{key}_curve")]
    charts = []
    if lines:
        charts.append(line_chart("long-psnr", "PSNR in dB, higher is better", lines, x_label="generated frame"))
    if curve := found.get("ssim_curve"):
        line, title = Line(_LABELS["inferred"], curve, "inferred"), "SSIM with inferred actions, higher is better"
        charts.append(line_chart("long-ssim", title, [line], x_label="generated frame"))
    columns = [(f"PSNR, {_LABELS[kind]}", found[key], 2) for key, kind in curves if found.get(key)]
    if ssim := found.get("ssim"):
        columns.append(("SSIM, inferred actions", ssim, 3))
    rows = [
        [t, *(f"{values[t]:.{digits}f}" if t in values else "" for _, values, digits in columns)]
        for t in found.get("psnr") or {}
    ]
    caption = f"Mean over {found.get('clips', '?')} clips, by generated frame"
    reading = (
        f"{found.get('frames', '?')} frames are generated from one real frame and the actions inferred from the real "
        "video. Errors accumulate, so the curve falls. While it is above the random actions, the world follows the "
        "actions. Where it meets the repeated prompt, it is no closer to the video than a still frame."
    )
    protocol = tag("p", f"{text}.", class_="small") if (text := found.get("protocol")) else Html()
    numbers = table(caption, ["frame", *(name for name, _, _ in columns)], rows, class_="numbers") if rows else Html()
    return join(tag("p", reading), tag("div", *charts, class_="charts"), numbers, protocol)


def tokens(results: dict[str, Any]) -> Html:
    """Return the prediction of the tokens of the next real frame."""
    scores = results.get("tokens") or {}
    codebook = scores.get("codebook") or {}
    if codebook.get("collapsed"):
        return warnings([collapsed_text(codebook)])
    kinds = {
        "masked": "partially masked, as in training",
        "full_frame": "fully masked, as in the first MaskGIT step",
    }
    rows = [
        [label, f"{100 * s['accuracy']:.1f} %", f"{s['cross_entropy']:.3f}", f"{s['tokens']:,}"]
        for key, label in kinds.items()
        if (s := scores.get(key))
    ]
    if not rows:
        return missing("The prediction of the next tokens was not measured.")
    reading = (
        "Accuracy of the most likely code and cross-entropy of the dynamics model on the tokens of the next real frame, "
        "given the real past and the inferred action, before sampling."
    )
    if codebook:
        reading += f" The tokenizer has a perplexity of {codebook['perplexity']:.1f} of {codebook['codes']} codes."
    head = ["next frame", "accuracy", "cross-entropy (nats)", "tokens"]
    return join(tag("p", reading), table("Prediction of tokens on real frames", head, rows, class_="numbers"))


def fvd(results: dict[str, Any]) -> Html:
    """Return the FVD with its protocol, or how to measure it."""
    value, other = results.get("fvd"), results.get("random_frechet")
    if value is not None:
        parts = [tag("p", f"{value:.1f}", class_="value"), tag("p", "Lower is better; 0 means equal distributions.")]
    else:
        reading = (
            "FVD was not measured. It needs the commonly used I3D network, which Djinn does not download: pass its "
            "TorchScript file (as used by StyleGAN-V) with --fvd-detector FILE."
        )
        parts = [missing(reading)]
    if protocol := results.get("fvd_protocol"):
        parts.append(_distance_protocol(protocol))
    if other is not None:
        reading = (
            "Frechet distance of a 3-D convolutional network with fixed random weights. It is not FVD and comparable only "
            "between worlds that are measured in the same way."
        )
        parts += [tag("h3", "Distance of a random network"), tag("p", f"{other:.4g}", class_="value")]
        parts.append(tag("p", reading))
        if protocol := results.get("random_frechet_protocol"):
            parts.append(_distance_protocol(protocol))
    return join(*parts)


def _distance_protocol(protocol: dict[str, Any]) -> Html:
    rows = [list(row) for row in flatten(protocol)]
    return table("Protocol of the distance", ["setting", "value"], rows, class_="plain")
