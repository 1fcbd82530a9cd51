"""Import directions between the packages of Djinn; no import cycles between files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import djinn

ROOT = Path(djinn.__file__).parent
BASE = {"errors", "atomic", "malloc"}
MODELS = BASE | {"config", "nn", "models"}
ENGINES = MODELS | {"images", "image_grid", "generate", "backends"}
MAY_IMPORT = {
    "errors": set(),
    "malloc": set(),
    "atomic": {"errors"},
    "config": BASE,
    "nn": BASE | {"config"},
    "models": BASE | {"config", "nn", "images"},
    "images": BASE,
    "image_grid": BASE,
    "generate": MODELS | {"images"},
    "backends": MODELS | {"generate"},
    "data": BASE | {"config", "images", "image_grid"},
    "train": MODELS | {"images", "image_grid", "generate", "data"},
    "evaluate": ENGINES | {"data"},
    "envs": ENGINES | {"data"},
    "agents": ENGINES | {"data", "envs"},
    "play": ENGINES | {"data"},
    "report": ENGINES | {"data", "evaluate"},
    "actions": ENGINES | {"data", "evaluate", "report"},
    "diagnose": ENGINES | {"data", "evaluate", "report"},
    "plan": MODELS,
    "benchmark": ENGINES | {"data", "train"},
    "sample": ENGINES | {"data"},
    "pipeline": ENGINES | {"data", "train", "evaluate", "actions"},
}
"""Packages and root modules that each may import besides itself."""
TOP = {"__init__", "__main__", "cli"}
"""May import everything."""


def imported_modules(code: str, *, typing_only: bool = True) -> Iterator[str]:
    """Yield the dotted names that a module imports from Djinn, anywhere in it.

    Args:
        code: source of the module.
        typing_only: whether imports under `if TYPE_CHECKING:` count.
    """
    for node in ast.walk(ast.parse(code)) if typing_only else _walk_without_typing_blocks(code):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("djinn."))


def _walk_without_typing_blocks(code: str) -> Iterator[ast.AST]:
    """Walk a module's syntax tree without the bodies of `if TYPE_CHECKING:`."""
    pending: list[ast.AST] = [ast.parse(code)]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


def forbidden_imports(package: str, code: str) -> set[str]:
    """Return the packages that a module of `package` imports against the layout."""
    if package in TOP:
        return set()
    found = {name.split(".")[1] for name in imported_modules(code)} - {"__version__"}
    return found - MAY_IMPORT[package] - {package}


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module_name(path: Path) -> str:
    return ".".join(("djinn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Map each module to the modules that it imports; a package stands for its `__init__`."""

    def resolve(name: str) -> str | None:
        while name and name not in sources:
            name = name.rpartition(".")[0]
        return name or None

    graph = {}
    for module, code in sources.items():
        targets = {resolve(name) for name in imported_modules(code, typing_only=False)}
        graph[module] = {target for target in targets if target is not None and target not in (module, "djinn")}
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle, or an empty list."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if cycle := visit(target, [*path, module]):
                return cycle
        done.add(module)
        return []

    for module in sorted(graph):
        if cycle := visit(module, []):
            return cycle
    return []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layout(path: Path) -> None:
    assert not forbidden_imports(package_of(path), path.read_text(encoding="utf-8"))


def test_every_module_has_a_place_in_the_layout() -> None:
    assert {package_of(path) for path in ROOT.rglob("*.py")} <= TOP | MAY_IMPORT.keys()


def test_files_do_not_import_each_other_in_a_cycle() -> None:
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    assert not find_cycle(import_graph(sources))


def test_packages_do_not_import_each_other_in_a_cycle() -> None:
    graph = {package: MAY_IMPORT[package] & MAY_IMPORT.keys() for package in MAY_IMPORT}
    assert not find_cycle(graph)


@pytest.mark.parametrize(
    ("package", "line", "forbidden"),
    [
        ("evaluate", "from djinn.train.run import train", {"train"}),
        ("evaluate", "def f():\n    from djinn import sample, generate", {"sample"}),
        ("nn", "import djinn.models.world as w", {"models"}),
        ("config", "from djinn.nn import kv_cache", {"nn"}),
        ("play", "import djinn\nfrom djinn.config import WorldConfig\nfrom djinn import __version__", set()),
    ],
)
def test_a_forbidden_import_is_found(package: str, line: str, forbidden: set[str]) -> None:
    assert forbidden_imports(package, line) == forbidden


def test_a_cycle_between_files_is_found() -> None:
    one, two = "from djinn.b import f", "def g():\n    from djinn.a import h"
    typing_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from djinn.a import h"
    assert find_cycle(import_graph({"djinn.a": one, "djinn.b": two})) == ["djinn.a", "djinn.b"]
    assert not find_cycle(import_graph({"djinn.a": one, "djinn.b": typing_only}))
