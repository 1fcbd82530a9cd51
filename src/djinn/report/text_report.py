"""What `evaluate` gives as tables for a terminal."""

from __future__ import annotations

from typing import Any

from djinn.evaluate.controllability import percent


def print_report(figures: dict[str, Any]) -> None:
    """Prints what `djinn.report.evaluation.evaluate` gives as tables."""
    print(format_report(figures))


def format_report(figures: dict[str, Any]) -> str:
    """Tables of what `djinn.report.evaluation.evaluate` gives, for a person to read."""
    protocol, sampler = figures["protocol"], figures["protocol"]["sampler"]
    use, horizon = figures["code_use"], protocol["horizon"]
    lines = [
        f"{protocol['clips']} clips of split '{protocol['split']}' of {protocol['dataset']} "
        f"({protocol['dataset_identity']}), {protocol['prompt_frames']} prompt frame(s) + {horizon},",
        f"{sampler['steps']} MaskGIT steps, temperature {sampler['temperature']:g}, top-k {sampler['top_k'] or 'off'}, "
        f"noise {sampler['choice_temperature']:g}, seed {protocol['seed']}",
        *_fewer(protocol),
        "",
        f"tokenizer PSNR {figures['tokenizer_psnr']:.2f} dB, SSIM {figures['tokenizer_ssim']:.3f}",
        f"roll-out PSNR  {figures['rollout_psnr']:.2f} dB, SSIM {figures['rollout_ssim']:.3f} over {horizon} frames, "
        "inferred actions",
        *_headline(figures),
        *_tokens(figures["tokens"]),
        *_distances(figures),
        "",
        *_curves(figures),
        "",
        f"latent actions: {use['used']} of {len(use['shares'])} codes in use (at least {percent(use['used_from'])}), entropy "
        f"{use['entropy_bits']:.2f} bits, {use['transitions']} transitions",
        "",
        *_codes(figures),
        *_effects(figures["effects"]),
        *_drift(figures["drift"]),
        *_long(figures["long"]),
    ]
    return "\n".join(lines)


def _fewer(protocol: dict[str, Any]) -> list[str]:
    if protocol["clips"] >= protocol["clips_asked"]:
        return []
    asked, frames = protocol["clips_asked"], protocol["clip_frames"]
    return [f"note: {asked} clips were asked for, but there are no more of {frames} frames"]


def _headline(figures: dict[str, Any]) -> list[str]:
    t = "4" if "4" in figures["delta_psnr"] else max(figures["delta_psnr"], key=int)
    lines = []
    for key, against in (("delta_psnr", "random actions"), ("delta_psnr_empirical", "random ones as they occur")):
        interval = _interval(figures[f"{key}_interval"][t])
        lines.append(f"delta-{t} PSNR   {figures[key][t]:.2f} dB (95 % interval {interval}) over {against}")
    return lines


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _tokens(tokens: dict[str, Any]) -> list[str]:
    parts = []
    for key, label in (("masked", "masked as in training"), ("full_frame", "all of the frame hidden")):
        score = tokens[key]
        parts.append(f"{100 * score['accuracy']:.1f} % right, {score['cross_entropy']:.2f} nats, {label}")
    return [f"next tokens    {'; '.join(parts)}"]


def _distances(figures: dict[str, Any]) -> list[str]:
    lines = []
    for key, label, protocol in (
        ("fvd", "FVD           ", figures["fvd_protocol"]),
        ("random_frechet", "random_frechet", figures["protocol"]["random_frechet"]),
    ):
        if figures[key] is None:
            continue
        sha = f", sha256 {protocol['sha256'][:12]}" if protocol["sha256"] else ""
        lines.append(
            f"{label} {figures[key]:.4g} ({protocol['detector']}{sha}; {protocol['clips']} clips of "
            f"{protocol['clip_frames']} frames of {protocol['resolution']})"
        )
        lines += [f"  note: {warning}" for warning in protocol["warnings"]]
    if figures["random_frechet"] is not None:
        lines.append("  note: this distance is no FVD; it compares only with others of this network")
    return lines


def _curves(figures: dict[str, Any]) -> list[str]:
    rollout = figures["rollout"]
    head = ["frame", "inferred", "random", "repeat", "delta", "95 % interval", "empirical", "95 % interval", "SSIM"]
    rows = []
    for i, t in enumerate(figures["delta_psnr"]):
        levels = (f"{rollout[key]['psnr'][i]:.2f}" for key in ("inferred", "random", "repeat"))
        deltas = (
            text
            for key in ("delta_psnr", "delta_psnr_empirical")
            for text in (f"{figures[key][t]:.2f}", _interval(figures[f"{key}_interval"][t]))
        )
        rows.append([t, *levels, *deltas, f"{rollout['inferred']['ssim'][i]:.3f}"])
    return aligned([head, *rows])


def _codes(figures: dict[str, Any]) -> list[str]:
    shares, names, table = figures["code_use"]["shares"], figures["code_names"], figures["code_table"]
    if table is None:
        rows = [[str(i), names[i], f"{100 * share:.1f} %"] for i, share in enumerate(shares)]
        return aligned([["code", "name", "share"], *rows])
    seen = [j for j in range(len(table["moves"])) if any(row[j] for row in table["counts"])]
    rows = []
    for i, (share, counts) in enumerate(zip(shares, table["counts"], strict=True)):
        cells = [f"{100 * counts[j] / max(sum(counts), 1):.0f}" for j in seen]
        rows.append([str(i), f"{100 * share:.1f} %", *cells, table["reading"][i]])
    head = ["code", "share", *(table["moves"][j] for j in seen), "mostly"]
    lines = ["true moves of each code, in percent of its transitions", *aligned([head, *rows])]
    for label, key in (("all transitions", "overall"), ("those whose pixels change", "changed")):
        a = table[key]
        lines.append(
            f"{label} ({a['transitions']}): codes tell {a['mutual_information_bits']:.2f} of "
            f"{a['move_entropy_bits']:.2f} bits; best reading right in {100 * a['accuracy']:.1f} % "
            f"(most frequent move alone {100 * a['majority']:.1f} %)"
        )
    return lines


def _effects(effects: dict[str, Any] | None) -> list[str]:
    if effects is None:
        return []
    head = ["code", "dx", "dy", "prompts that agree", "agreement of flow", "grey levels changed"]
    rows = []
    for code in effects["codes"]:
        shift = [f"{pixels:+.1f}" for pixels in code["shift"]]
        agreed = f"{100 * code['shift_agreement']:.0f} %"
        rows.append([str(code["code"]), *shift, agreed, f"{code['flow_agreement']:.2f}", f"{code['change']:.1f}"])
    return [
        "",
        f"effect of each code, held for {effects['frames']} frames from {effects['prompts']} pictures: shift of the picture "
        f"in pixels a frame; consistency {effects['consistency']:.2f} (0 to 1)",
        *aligned([head, *rows]),
    ]


def _drift(drift: dict[str, Any] | None) -> list[str]:
    if drift is None:
        return []
    said = ", ".join(drift["flags"]) or "nothing goes wrong"
    return ["", f"{drift['games']} long games of {drift['frames']} frames: {said}"]


def _long(long: dict[str, Any] | None) -> list[str]:
    if long is None:
        return []
    rows = [
        [
            t,
            f"{level:.2f}",
            *(f"{long[key][t]:.2f}" for key in ("random_psnr", "repeat_psnr")),
            f"{long['ssim'][t]:.3f}",
        ]
        for t, level in long["psnr"].items()
    ]
    return [
        "",
        f"long play: PSNR in dB over {long['clips']} clips of {long['frames']} made frames",
        *aligned([["frame", "inferred", "random", "repeat", "SSIM"], *rows]),
    ]


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of a table as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
