"""Commands, code and names in README and docs exist and run."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from djinn.cli import COMMANDS, command_module
from language_rules import ROOT

PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.name not in ("cli.md", "log.md")
]
PACKAGE = ROOT / "src" / "djinn"


class Parsed(Exception):
    """Raised instead of running a command whose arguments were parsed."""


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return the `djinn` command lines in the shell blocks of README and docs."""
    lines: set[str] = set()
    for page in PAGES:
        for block in code_blocks(page, "bash"):
            found = re.findall(r"^(?:torchrun .* -m )?(djinn .*)$", block.replace("\\\n", " "), re.MULTILINE)
            lines |= {" ".join(line.split("#")[0].split()) for line in found}
    return sorted(lines)


@pytest.mark.parametrize("command", commands())
def test_command_line_is_valid(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = shlex.split(command)[1:]
    monkeypatch.chdir(tmp_path)
    for folder in ("my-videos", "my-sequences", "assets/coinrun-videos"):
        (tmp_path / folder).mkdir(parents=True)
    name = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
    module = command_module(name)
    parse = module.parse

    def parse_only(*args, **options):
        parse(*args, **options)
        raise Parsed

    monkeypatch.setattr(module, "parse", parse_only)
    with pytest.raises(Parsed):
        module.main(words[len(name.split()) :])


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_python_example_writes_a_gif(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (code,) = code_blocks(ROOT / page, "python")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "runs" / "coinrun.gif").stat().st_size > 10_000


@pytest.mark.parametrize("page", ["docs/formats/dataset.md", "docs/reference/api/worlds.md"])
def test_python_examples_of_reference_pages_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in code_blocks(ROOT / page, "python"):
        exec(code, names)


def defined_names(file: Path) -> set[str]:
    """Return functions, classes and `Class.method` names of a source file."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def test_paper_map_names_existing_code():
    text = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", text))
    assert len(files) > 20
    missing = [f for f in files if not (PACKAGE / f).is_file() and not (ROOT / f).is_file()]
    assert not missing
    references = re.findall(r"((?:`[\w.]+`(?:, | and ))*`[\w.]+`)\s+in\s+`([a-z_/0-9]+\.py)`", text)
    assert len(references) > 15
    for names, file in references:
        existing, owner = defined_names(PACKAGE / file), ""
        for name in re.findall(r"`([\w.]+)`", names):
            name = owner + name if name.startswith(".") else name
            owner = name.split(".")[0]
            assert name in existing, f"{name} is not in {file}"


def test_pages_included_in_the_site_have_no_relative_links():
    for page in ("CONTRIBUTING.md", "CHANGELOG.md"):
        targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        assert all("://" in target for target in targets), page


def test_relative_links_of_root_pages_exist():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "benchmarks/README.md"):
        file = ROOT / page
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text(encoding="utf-8")):
            assert "://" in target or (file.parent / target).exists(), f"{page} links to {target}"


def test_play_protocol_page_lists_every_message_with_its_fields():
    protocol = pytest.importorskip("djinn.play.protocol")
    text = (ROOT / "docs" / "formats" / "play-protocol.md").read_text(encoding="utf-8")
    documented = {
        name: set(re.findall(r"`(\w+)`", fields))
        for name, fields in re.findall(r"^\| `(\w+)` \| ([^|]*)\|.*\|$", text, re.M)
    }
    for name, fields in protocol.message_schemas(["left", "right"], 2).items():
        assert set(fields) == documented[name], name


def test_guide_lists_every_verdict():
    from djinn.diagnose.verdict import FAULTS, NOT_TRAINED, PLAYABLE, UNDERTRAINED

    text = (ROOT / "docs" / "guides" / "judge-a-world.md").read_text(encoding="utf-8")
    for verdict in (*FAULTS, NOT_TRAINED, PLAYABLE, UNDERTRAINED):
        assert verdict in text.split("## Verdicts")[1], verdict


def test_guide_lists_the_presets():
    from djinn.config.presets import PRESETS

    text = (ROOT / "docs" / "guides" / "train-on-your-videos.md").read_text(encoding="utf-8")
    sizes = [name for name in PRESETS if name.startswith("genie-")]
    assert all(f"| `{name}`" in text for name in PRESETS if name not in sizes)
    assert f"`{sizes[0]}` …" in text and "`genie-10.1b`" in text
