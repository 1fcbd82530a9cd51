"""Worlds that learned from different ways of playing CoinRun, each measured on the levels as each way plays them.

What a world can show depends on what it has seen, and its figures on what it is asked to continue; so neither the
worlds nor the tests can be compared along one line only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study import read_results, say
from study_report import markdown, write
from time_limit import TimeLimit

from djinn.data.importers.policies import check_policy
from djinn.errors import UserError

ASKED = ("preset", "budget", "set", "mode", "plain", "levels", "frames", "clips", "horizon", "smoke")
"""Options that must stay the same while a comparison goes on."""
KEPT = (
    "tokenizer_psnr",
    "tokenizer_ssim",
    "rollout_psnr",
    "rollout_ssim",
    "delta_psnr",
    "delta_psnr_interval",
    "code_use",
    "code_table",
    "protocol",
)
"""Figures that are kept of each measurement."""


def read_policies(text: str) -> list[str]:
    """Reads `--compare-policies`.

    Raises:
        UserError: a policy is unknown or named twice, or there is only one.
    """
    policies = [name.strip() for name in text.split(",") if name.strip()]
    for name in policies:
        check_policy(name)
    if len(policies) < 2 or len(set(policies)) < len(policies):
        raise UserError(f"--compare-policies takes two different policies or more, e.g. random,mix; got '{text}'")
    return policies


def compare(
    args: argparse.Namespace,
    call: TimeLimit,
    prepare: Callable[[argparse.Namespace, TimeLimit], Any],
    measure: Callable[[argparse.Namespace, argparse.Namespace, TimeLimit], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Does the whole job once for each policy, and measures every world on the test levels of every policy.

    Args:
        args: as of `coinrun.read_args`, with `compare_policies`.
        call: the limit on this call.
        prepare: does the stages of a job that are asked for, but for measuring.
        measure: measures the world of one job on the test levels of another; where it is its own, with a report.

    Returns:
        What is in compare.json: a result for each pair; empty where measuring was not asked for.

    Raises:
        UserError: as the parts do, or `--out` holds a comparison with other settings.
    """
    jobs = {policy: _job(args, policy) for policy in args.compare_policies}
    path = args.out / "compare.json"
    asked = {key: getattr(args, key) for key in ASKED}
    results = read_results(path, asked)
    for policy, own in jobs.items():
        say(f"policy {policy}, in {own.out}")
        prepare(own, call)
    if args.stage not in ("all", "evaluate"):
        return []
    for learned, own in jobs.items():
        for played, other in jobs.items():
            if any((r["trained_on"], r["tested_on"]) == (learned, played) for r in results):
                say(f"the world of {learned} is measured on {played} already")
                continue
            say(f"measuring the world of {learned} on {played}")
            figures = measure(own, other, call)
            found = {key: figures[key] for key in KEPT}
            results.append({"trained_on": learned, "tested_on": played, **found})
            write(path, json.dumps({"asked": asked, "results": results}, indent=1) + "\n")
    page = table(results, list(jobs))
    write(args.out / "compare.md", page)
    print(f"\n{page}")
    say(f"the comparison is in {args.out / 'compare.md'} and {path}")
    return results


def _job(args: argparse.Namespace, policy: str) -> argparse.Namespace:
    """The options of the job for one policy."""
    return argparse.Namespace(**{**vars(args), "policy": policy, "out": args.out / policy})


def table(results: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> str:
    """The comparison in Markdown, with how it was made."""
    by_pair = {(r["trained_on"], r["tested_on"]): r for r in results}
    rows = [["learned from \\ tested on", *policies]]
    for learned in policies:
        rows.append([learned, *(_cell(by_pair[learned, played]) for played in policies)])
    protocol = results[0]["protocol"]
    how = (
        f"Roll-out PSNR over {protocol['horizon']} frames with inferred actions / delta-4 PSNR with its 95 % interval, in dB; "
        f"{protocol['clips']} clips of unseen levels, {protocol['prompt_frames']} prompt frame, "
        f"{protocol['sampler']['steps']} MaskGIT steps at temperature {protocol['sampler']['temperature']:g}, "
        f"seed {protocol['seed']}."
    )
    return f"{how}\n\n{markdown(rows)}"


def _cell(result: Mapping[str, Any]) -> str:
    low, high = result["delta_psnr_interval"]["4"]
    return f"{result['rollout_psnr']:.2f} / {result['delta_psnr']['4']:.2f} ({low:.2f} to {high:.2f})"
