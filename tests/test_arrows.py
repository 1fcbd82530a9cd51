"""Which part of Djinn may import which: the arrows run one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import djinn

ROOT = Path(djinn.__file__).parent
GROUND = {"config", "disk", "errors", "memory", "presets", "strict_yaml"}
TOP = {"__init__", "__main__", "bench", "cli", "commands", "plan", "sample"}
MAY_IMPORT = {
    "nn": set(),
    "models": {"nn"},
    "generate": {"models", "nn"},
    "data": set(),
    "train": {"data", "generate", "models", "nn"},
    "evaluate": {"data", "generate", "models", "nn"},
    "play": {"data", "generate", "models", "nn"},
    "agents": {"data", "generate", "models", "nn"},
}


def imported(code: str) -> Iterator[str]:
    """Parts of Djinn that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "djinn" and len(parts) > 1 and not parts[1].startswith("__version"):
                yield parts[1]


def broken(part: str, code: str) -> set[str]:
    """Imports of a module of this part that no arrow allows."""
    if part in TOP:
        return set()
    allowed = GROUND if part in GROUND else GROUND | MAY_IMPORT[part] | {part}
    return set(imported(code)) - allowed


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    assert not broken(part_of(path), path.read_text(encoding="utf-8"))


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in ROOT.rglob("*.py")} <= GROUND | TOP | MAY_IMPORT.keys()


@pytest.mark.parametrize(
    ("part", "line", "wrong"),
    [
        ("evaluate", "from djinn.train.figures import psnr", {"train"}),
        ("evaluate", "def f():\n    from djinn import sample, generate", {"sample"}),
        ("nn", "import djinn.models.world as w", {"models"}),
        ("config", "from djinn.nn import cache", {"nn"}),
        ("play", "import djinn\nfrom djinn.config import WorldConfig\nfrom djinn import __version__", set()),
    ],
)
def test_a_wrong_arrow_is_found(part: str, line: str, wrong: set[str]) -> None:
    assert broken(part, line) == wrong
