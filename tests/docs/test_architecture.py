"""docs/architecture.md draws which package may import which, and the code agrees with it in both directions."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/architecture.md"
FOLDERS = ("benchmarks", "configs", "data_pipelines", "eval", "models", "tercet", "training")
# The blocks of the page, and where their names begin.
DRAWN = {"tercet": "", "data_pipelines": "data_pipelines.", "eval": "eval.", "training": "training."}


@dataclass(frozen=True)
class Drawing:
    """The packages of one block, those that all others may import, and what else each may import."""

    base: frozenset[str]
    rows: dict[str, list[str]]

    def home(self, module: str) -> str:
        """The innermost package that holds a module; none: empty."""
        packages = (package for package in (*self.base, *self.rows) if within(module, package))
        return max(packages, key=len, default="")

    def draws(self, module: str, other: str) -> bool:
        home = self.home(module)
        return self.home(other) in (home, *self.base) or any(within(other, one) for one in self.rows.get(home, ()))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def drawing(block: str) -> Drawing:
    """Reads the lines `base = A, B` and `C → A, B` of a block, as many of each as there are."""
    text = PAGE.read_text(encoding="utf-8").partition(f"```imports {block}\n")[2].partition("```")[0]
    base = (row.partition("=")[2] for row in text.splitlines() if row.startswith("base ="))
    arrows = (row.partition("→") for row in text.splitlines() if "→" in row)
    return Drawing(
        frozenset(chain.from_iterable(map(listed, base))), {name.strip(): listed(b) for name, _, b in arrows}
    )


def listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def modules() -> dict[str, Path]:
    """Every module by its dotted name within `tercet`; the package itself is called tercet."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {named(path.relative_to(ROOT)): path for path in files}


def named(path: Path) -> str:
    parts = [part for part in path.with_suffix("").parts if part != "__init__"]
    return ".".join(parts[1:] if parts[0] == "tercet" and len(parts) > 1 else parts)


def imports(beginning: str) -> dict[str, set[str]]:
    """What each module imports, also within functions and for type checkers, as far as names begin so."""
    inside = {name: others for name, others in all_imports().items() if name.startswith(beginning)}
    return {
        name.removeprefix(beginning): {o.removeprefix(beginning) for o in others if o.startswith(beginning)}
        for name, others in inside.items()
    }


@cache
def all_imports() -> dict[str, set[str]]:
    found = modules()
    return {name: set(imported(ast.walk(parsed(path)), found)) for name, path in found.items()}


def imported(nodes: Iterable[ast.AST], known: Collection[str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in (name.removeprefix("tercet.") for name in wanted if within(name, "tercet")):
            yield name if name in known else name.rpartition(".")[0] or "tercet"  # else it is defined in a module


@pytest.mark.parametrize("block", DRAWN)
def test_every_import_is_drawn_on_the_page(block: str) -> None:
    drawn = drawing(block)
    found = imports(DRAWN[block])
    assert [name for name in found if not drawn.home(name)] == [], "docs/architecture.md does not draw these modules"
    undrawn = [f"{name} imports {o}" for name, others in found.items() for o in others if not drawn.draws(name, o)]
    assert undrawn == [], "move the code, or draw the import in docs/architecture.md"


@pytest.mark.parametrize("block", DRAWN)
def test_every_import_drawn_on_the_page_exists(block: str) -> None:
    drawn = drawing(block)
    used: dict[str, set[str]] = {package: set() for package in (*drawn.base, *drawn.rows)}
    for name, others in imports(DRAWN[block]).items():
        used[drawn.home(name)] |= others | {name}
    assert [package for package, others in used.items() if not others] == []
    idle = [f"{a} → {b}" for a, others in drawn.rows.items() for b in others if not any(within(o, b) for o in used[a])]
    assert idle == []


def run_imports() -> dict[str, set[str]]:
    """What each module imports when it runs. A config may import its own package within functions: it builds what needs
    torch, and imports none."""
    found = modules()
    graph: dict[str, set[str]] = {}
    for name, path in found.items():
        package, _, last = name.rpartition(".")
        lazy = set(imported(chain.from_iterable(map(ast.walk, filter(is_function, ast.walk(parsed(path))))), found))
        allowed = {other for other in lazy if last == "config" and within(other, package)}
        graph[name] = (set(imported(untyped(parsed(path)), found)) | lazy) - allowed
    return graph


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def untyped(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs when a module is imported, and so nothing for type checkers alone."""
    yield node
    if not is_function(node) and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from untyped(child)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_imports_form_a_cycle() -> None:
    assert cycle(run_imports()) == [], "these modules import each other"


@pytest.mark.parametrize("block", DRAWN)
def test_no_packages_form_a_cycle(block: str) -> None:
    drawn = drawing(block)
    graph = {package: {drawn.home(other) for other in others} for package, others in drawn.rows.items()}
    assert cycle(graph) == [], "these packages import each other"


def cycle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """The names of a cycle of imports, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
