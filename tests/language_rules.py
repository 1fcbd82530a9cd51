"""Words and names that the sources must not contain, and a scanner for them.

Run `python tests/language_rules.py [PATH ...]` for a list of violations.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCANNED = ("src", "tests", "docs", "recipes", "benchmarks", "assets", "README.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".md", ".js", ".html", ".css", ".yaml", ".toml", ".yml"}
EXEMPT = {"tests/language_rules.py", "tests/test_language.py", "docs/reference/cli.md"}
"""Files that contain the words as data, and the page generated from `--help`."""

PHRASES: dict[str, str] = {
    # the phrases to replace
    r"(?:go|goes|going|gone|went) on (?:with|from)": "continue training, fine-tune, resume",
    r"made anew|anew": "regenerate, recompute",
    r"again": "regenerate, recompute, retry, rerun",
    r"reading of (?:the )?codes|codes? (?:to|into) moves? reading": "code-to-action accuracy (majority vote)",
    r"right in [\d.]+ ?%": "code-to-action accuracy (majority vote): N %",
    r"who rises|shows? nobody": "players sliding up a wall reveal no direction",
    r"of whom|whom": "held-out policies",
    r"(?:worlds?|models?|it) (?:knows|dreams|makes up)": "the model was trained on, generates, hallucinates",
    r"figures": "metrics, plots; 'Fig. 13, 15' for figures of the paper",
    r"(?<!tag\(\")pictures?": "image, frame, plot",  # except the HTML element
    r"kept apart": "held out",
    r"said of": "measured for",
    r"mended": "fixed",
    r"asked for and what is chosen": "requested and resolved engine",
    r"ways? back": "backward pass",
    r"both ways": "forward and backward; left and right; with and without",
    r"camera was held": "apply EXIF orientation",
    r"(?:tells?|told|telling) (?:\w+ ){0,4}apart": "distinguishes codes",
    # personification and wording that the rules forbid
    r"who": "rephrase without a person",
    r"knows|hears|dreams": "rephrase: models are trained, read, generate",
    r"said": "rephrase",
    r"by itself": "independently, alone",
    r"(?:ask|asks|asked|asking) for": "request, require, pass",
    r"what is made": "name the output",
    r"goes on|went on|gone on": "continues",
}
"""Regular expressions of phrases, with the wording to use.

Letters delimit a phrase; underscores and line breaks do not.
"""

NAMES: dict[str, str] = {
    "TimeCache": "KVCache",
    "CacheLayer": "LayerKVCache",
    "sum_over_clips": "parallel_loss",
    "ToPatches": "PatchEmbed",
    "FromPatches": "Unpatchify",
    "GridPosition": "PositionEmbedding2D",
    "SpaceTransformer": "SpatialTransformer",
    "SpaceTimeTransformer": "FullSpaceTimeTransformer",
    "fair_share": "min_used_share",
    "read_codes_of": "set_token_codebook",
    "restart_below": "dead_code_threshold",
    "start_from": "init_from",
    "known_after": "num_unmasked",
    "for_play": "select_backend",
    "Runner": "OnnxRunner",
    "_Job": "TrainingRun",
    "_restyled": "metadata_changed",
    "Closeness": "FrameMetrics",
    "liveliest": "most_responsive",
    "unpicked": "spread_over_sources",
    "whole_file": "atomic_write",
    "Hall": "PlayServer",
}
"""Old names that are distinctive enough to be refused anywhere in code, as whole identifiers."""

MODULES: dict[str, str] = {
    "nn.rivals": "nn.tokenizer_baselines",
    "nn.time": "nn.rotary",
    "nn.threads": "nn.cpu_parallel",
    "models.storage": "models.serialization",
    "models.codes": "models.code_usage",
    "generate.graph": "backends.onnx_graph",
    "generate.onnx": "backends.onnx_backend",
    "train.figures": "models.psnr, models.code_usage",
    "train.log": "train.loggers",
    "train.tokens": "train.token_cache",
    "train.pictures": "train.visualize",
    "train.diagnose": "train.collapse_warnings",
    "evaluate.readings": "actions.labels",
    "evaluate.names": "actions.naming",
    "evaluate.moves": "evaluate.code_table",
    "evaluate.effects": "evaluate.action_effects",
    "evaluate.long": "evaluate.long_rollouts",
    "evaluate.gallery": "actions.prompt_selection",
    "evaluate.picture": "report.image_grid",
    "evaluate.remedies": "diagnose.recommendations",
    "evaluate.console": "report.text_report",
    "evaluate.probe": "diagnose.interventions",
    "play.hall": "play.server",
    "play.guard": "play.security",
    "play.tape": "play.recorder",
    "play.film": "play.recorder",
    "play.pictures": "play.images",
    "data.about": "Dataset.metadata",
    "data.preview": "data.contact_sheet",
    "disk": "atomic",
    "memory": "malloc",
}
"""Old modules below `djinn`, refused as files and as dotted or slashed paths."""

OPTIONS: dict[str, str] = {
    "rim": "ignored-border",
    "motion": "frame-diff-input",
    "restart-below": "dead-code-threshold",
    "corrupt": "token-noise",
    "noise": "choice-temperature",
    "accumulate": "grad-accum-steps",
    "clip": "grad-clip",
    "ema": "ema-decay",
    "start-from": "init-from",
    "sinks": "loggers",
}
"""Old config keys, refused as fields of `djinn.config`, as options and as dotted keys in text."""

MEMBERS: dict[str, dict[str, str]] = {
    "config": {key.replace("-", "_"): new.replace("-", "_") for key, new in OPTIONS.items()},
    "nn": {
        "place": "reserve_slots",
        "sharpness": "qk_scale",
        "wanted": "query_positions",
        "use": "ema_counts",
        "sums": "ema_sums",
        "started": "initialized",
    },
    "models": {
        "before": "num_prefix_tokens",
        "leading": "embed_actions",
        "wanted": "query_positions",
        "sharpness": "qk_scale",
    },
    "generate": {"led": "action_emb", "wanted": "query_positions"},
    "backends": {"led": "action_emb", "wanted": "query_positions", "sharpness": "qk_scale"},
    "train": {
        "agree": "all_reduce_max",
        "share": "local_batch_size",
        "sound": "is_finite",
        "sinks": "loggers",
        "diagnose": "collapse_warnings",
    },
    "evaluate": {"Shown": "Examples", "Reading": "ActionLabel", "readings": "action_labels"},
    "actions": {"Reading": "ActionLabel", "readings": "action_labels"},
    "report": {"Shown": "Examples", "Reading": "ActionLabel", "readings": "action_labels"},
    "diagnose": {"Reading": "ActionLabel", "readings": "action_labels", "remedies": "recommendations"},
    "play": {"hear": "handle_message", "guard": "security", "tape": "recorder", "film": "recording"},
    "data": {"about": "metadata", "Order": "EpochSampler"},
}
"""Old names that are common words, refused as members in the code of one package only."""

POLICIES: dict[str, str] = {
    "keys": "keyboard-jump",
    "turns": "keyboard-turn",
    "players": "keyboard-mix",
    "person": "held-moves",
}
"""Old names of recording policies."""

_BOUNDARY = r"(?<![A-Za-z]){}(?![A-Za-z])"
_GAP = r"[\s#>|_*-]+"


def _phrase_pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(_BOUNDARY.format(f"(?:{phrase})").replace(" ", _GAP), re.IGNORECASE)


def _text_patterns() -> dict[re.Pattern[str], str]:
    patterns = {_phrase_pattern(phrase): wording for phrase, wording in PHRASES.items()}
    for name, new in NAMES.items():
        patterns[re.compile(rf"\b{re.escape(name)}\b")] = new
    for module, new in MODULES.items():
        path = re.escape(module).replace(r"\.", "[./]")
        patterns[re.compile(rf"\bdjinn[./]{path}(?:\.py)?\b(?!/)")] = new
    for option, new in OPTIONS.items():
        key = option.replace("-", "[-_]")
        patterns[re.compile(rf"--(?:[\w-]+\.)*{key}(?![\w-])")] = f"--{new}"
        patterns[re.compile(rf"\b(?:latent_action|dynamics|tokenizer|sampler|quantizer|config)\.{key}\b(?!\()")] = new
    patterns[re.compile(r"--world\.frames\b")] = "--world.context-frames"
    return patterns


def _policy_patterns() -> dict[re.Pattern[str], str]:
    patterns = {}
    for policy, new in POLICIES.items():
        patterns[re.compile(rf"--policy[ =]{policy}\b|polic(?:y|ies) `{policy}`|`{policy}` polic|by `{policy}`")] = new
        patterns[re.compile(rf"policy=[\"']{policy}[\"']")] = new
    return patterns


_PATTERNS = _text_patterns()
_POLICY_PATTERNS = _policy_patterns()
"""Not applied to tests, which check that old policy names are refused."""


def _members(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of every function, class, attribute, field and keyword argument."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.value.lineno, node.arg


def violations(path: str, text: str) -> list[tuple[int, str, str]]:
    """Find the words and names in one file that the rules forbid.

    Args:
        path: path relative to the repository, which decides the rules for common words.
        text: contents of the file.

    Returns:
        Line, text found and replacement, in the order of the lines.
    """
    found = []
    patterns = _PATTERNS if path.startswith("tests/") else {**_PATTERNS, **_POLICY_PATTERNS}
    for pattern, replacement in patterns.items():
        for match in pattern.finditer(text):
            found.append((text.count("\n", 0, match.start()) + 1, " ".join(match.group().split()), replacement))
    for package, names in MEMBERS.items():
        if path.endswith(".py") and path.startswith(f"src/djinn/{package}/"):
            found.extend((line, name, names[name]) for line, name in _members(text) if name in names)
    for module, new in MODULES.items():
        if path == f"src/djinn/{module.replace('.', '/')}.py":
            found.append((1, f"module {module}", new))
    return sorted(set(found))


def long_prose_lines(text: str, limit: int = 100) -> list[int]:
    """Return the numbers of the prose lines of a Markdown file that are longer than `limit`.

    Tables, headings, fenced code, HTML and lines with a URL or an image are exempt.
    """
    long, fenced = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith(("```", "~~~", "$$")):
            fenced = not fenced
            continue
        exempt = fenced or line.lstrip().startswith(("|", "#", "<", "![")) or "://" in line
        if len(line) > limit and not exempt:
            long.append(number)
    return long


def scanned_files(roots: Iterable[str] = SCANNED) -> Iterator[Path]:
    """Yield the text files below `roots` that the rules cover."""
    for root in roots:
        base = ROOT / root
        files = [base] if base.is_file() else sorted(base.rglob("*"))
        for file in files:
            relative = file.relative_to(ROOT).as_posix()
            if file.is_file() and file.suffix in SUFFIXES and relative not in EXEMPT and "__pycache__" not in relative:
                yield file


def report(roots: Iterable[str] = SCANNED) -> Iterator[str]:
    """Yield one line for each violation below `roots`."""
    for file in scanned_files(roots):
        path, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        for line, found, replacement in violations(path, text):
            yield f"{path}:{line}: {found!r} -> {replacement}"
        if file.suffix == ".md":
            for number in long_prose_lines(text):
                yield f"{path}:{number}: prose line longer than 100 characters"


if __name__ == "__main__":
    listed = list(report([str(Path(a).resolve().relative_to(ROOT)) for a in sys.argv[1:]] or SCANNED))
    print("\n".join(listed))
    sys.exit(bool(listed))
