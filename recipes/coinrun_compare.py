"""Worlds trained on several recording policies, each evaluated on the test levels of each policy.

Metrics of a world depend on its training data and on the test clips, so worlds and test sets are
compared in a matrix.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study import print_status, read_results, write_results
from study_report import markdown_table, write_text
from time_limit import TimeLimit

from djinn.data.importers.policies import check_policy
from djinn.errors import UserError

COMPARED_OPTIONS = ("preset", "budget", "set", "mode", "plain", "levels", "frames", "clips", "horizon", "smoke")
"""Options that must stay the same during a comparison."""
REPORTED_METRICS = (
    "tokenizer_psnr",
    "tokenizer_ssim",
    "rollout_psnr",
    "rollout_ssim",
    "delta_psnr",
    "delta_psnr_interval",
    "action_usage",
    "code_table",
    "protocol",
)
"""Metrics stored for each pair."""


def read_policies(text: str) -> list[str]:
    """Read `--compare-policies`.

    Raises:
        UserError: A policy is unknown or repeated, or there is only one.
    """
    policies = [name.strip() for name in text.split(",") if name.strip()]
    for name in policies:
        check_policy(name)
    if len(policies) < 2 or len(set(policies)) < len(policies):
        raise UserError(f"--compare-policies needs at least two different policies, e.g. random,mix; got '{text}'")
    return policies


def compare(
    args: argparse.Namespace,
    call: TimeLimit,
    prepare: Callable[[argparse.Namespace, TimeLimit], Any],
    evaluate: Callable[[argparse.Namespace, argparse.Namespace, TimeLimit], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Run the recipe once per policy, and evaluate every world on the test levels of every policy.

    Args:
        args: Options from `coinrun.read_args`, with `compare_policies`.
        call: Limit on this call.
        prepare: Runs the requested stages of a job except the evaluation.
        evaluate: Evaluates the world of one job on the test levels of another; with a report
            if they are the same.

    Returns:
        The contents of compare.json: a result for each pair; empty if no evaluation was requested.

    Raises:
        UserError: A part fails, or `--out` holds a comparison with other settings.
    """
    jobs = {policy: _job(args, policy) for policy in args.compare_policies}
    path = args.out / "compare.json"
    settings = {key: getattr(args, key) for key in COMPARED_OPTIONS}
    results = read_results(path, settings)
    for policy, job in jobs.items():
        print_status(f"policy {policy}, in {job.out}")
        prepare(job, call)
    if args.stage not in ("all", "evaluate"):
        return []
    for trained_on, job in jobs.items():
        for tested_on, test_job in jobs.items():
            if any((r["trained_on"], r["tested_on"]) == (trained_on, tested_on) for r in results):
                print_status(f"world of {trained_on} on {tested_on}: already evaluated")
                continue
            print_status(f"evaluating the world of {trained_on} on {tested_on}")
            metrics = evaluate(job, test_job, call)
            reported = {key: metrics[key] for key in REPORTED_METRICS}
            results.append({"trained_on": trained_on, "tested_on": tested_on, **reported})
            write_results(path, settings, results)
    page = comparison_table(results, list(jobs))
    write_text(args.out / "compare.md", page)
    print(f"\n{page}")
    print_status(f"the comparison is in {args.out / 'compare.md'} and {path}")
    return results


def _job(args: argparse.Namespace, policy: str) -> argparse.Namespace:
    """Return the options of the job for one policy."""
    return argparse.Namespace(**{**vars(args), "policy": policy, "out": args.out / policy})


def comparison_table(results: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> str:
    """Return the comparison in Markdown, with its protocol."""
    by_pair = {(r["trained_on"], r["tested_on"]): r for r in results}
    rows = [["trained on \\ tested on", *policies]]
    for trained_on in policies:
        rows.append([trained_on, *(_cell(by_pair[trained_on, tested_on]) for tested_on in policies)])
    protocol = results[0]["protocol"]
    description = (
        f"Roll-out PSNR over {protocol['horizon']} frames with inferred actions / Δ4PSNR with its 95 % interval, "
        f"in dB; {protocol['clips']} clips of unseen levels, {protocol['prompt_frames']} prompt frame, "
        f"{protocol['sampler']['steps']} MaskGIT steps at temperature {protocol['sampler']['temperature']:g}, "
        f"seed {protocol['seed']}."
    )
    return f"{description}\n\n{markdown_table(rows)}"


def _cell(result: Mapping[str, Any]) -> str:
    low, high = result["delta_psnr_interval"]["4"]
    return f"{result['rollout_psnr']:.2f} / {result['delta_psnr']['4']:.2f} ({low:.2f} to {high:.2f})"
