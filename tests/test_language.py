"""Sources and docs contain no old name, no forbidden phrase and no long prose line."""

from __future__ import annotations

import dataclasses

import pytest

from djinn import config
from language_rules import MODULES, OPTIONS, PHRASES, ROOT, SCANNED, long_prose_lines, report, scanned_files, violations


@pytest.mark.parametrize("root", SCANNED)
def test_sources_contain_no_forbidden_words(root: str):
    assert list(scanned_files([root]))
    listed = list(report([root]))
    assert not listed, "\n".join(listed)


def test_readme_has_at_most_120_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_config_fields_have_no_old_names():
    old = {key.replace("-", "_") for key in OPTIONS}
    classes = [value for value in vars(config).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
    assert len(classes) >= 6
    fields = {f"{cls.__name__}.{field.name}" for cls in classes for field in dataclasses.fields(cls)}
    assert not [name for name in fields if name.split(".")[1] in old]
    assert "WorldConfig.frames" not in fields


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs/a.md", "The same pictures as before."),
        ("docs/a.md", "`djinn train` goes\non with the last checkpoint."),
        ("src/djinn/nn/a.py", "# the sum that was\n# asked for"),
        ("src/djinn/cli/a.py", "def show_figures(): ..."),
        ("src/djinn/nn/a.py", "cache = TimeCache()"),
        ("docs/a.md", "see `djinn.train.figures`"),
        ("docs/a.md", "see `src/djinn/nn/rivals.py`"),
        ("docs/a.md", "`djinn train --world.latent-action.rim 8`"),
        ("docs/a.md", "`--start-from WORLD`"),
        ("docs/a.md", "`dynamics.corrupt`"),
        ("docs/a.md", "`--policy keys`"),
        ("src/djinn/train/a.py", "ranks.agree(1)"),
        ("src/djinn/play/a.py", "class Hall: ..."),
        ("src/djinn/nn/rivals.py", ""),
    ],
)
def test_planted_violation_is_found(path: str, text: str):
    assert violations(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs/a.md", "Figure 5 and Table 2 of the paper; compared against the baseline."),
        ("docs/a.md", "`djinn data import procgen out --frames 30000`"),
        ("src/djinn/nn/a.py", "grid_before = before + 1  # before the loop"),
        ("src/djinn/train/a.py", "share = step / steps"),
        ("src/djinn/report/a.py", "figure = plt.figure()"),
        ("docs/a.md", "whole-frame metrics of whoever"),
    ],
)
def test_common_words_in_other_contexts_are_accepted(path: str, text: str):
    assert not violations(path, text)


def test_long_prose_line_is_found_and_tables_are_exempt():
    long = "word " * 30
    assert long_prose_lines(f"short\n{long}\n| {long} |\n```\n{long}\n```\n{long}") == [2, 7]


def test_rules_name_only_modules_that_are_gone():
    assert not [m for m in MODULES if (ROOT / "src/djinn" / f"{m.replace('.', '/')}.py").exists()]
    assert all(PHRASES.values())
