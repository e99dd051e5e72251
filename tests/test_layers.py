"""Holds the import rule: imports point down, or sideways inside one layer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    "quantizers": 0,
    "sgq.errors": 0,
    "sgq.testing": 1,
    "sgq.graph": 1,
    "sgq.recipe": 2,
    "sgq.data": 2,
    "sgq.models": 2,
    "sgq.report": 2,
    "sgq.pipeline": 3,
    "sgq.runtime": 3,
    "sgq.cost": 3,
    "sgq.export": 4,
    "sgq.bits": 4,
    "sgq.nas": 5,
    "sgq.edge": 6,
    "sgq.cli": 7,
    "sgq": 7,
}
"""Room -> layer; `sgq` alone is the facade, which re-exports from the rooms below."""

NOT_FOR_QUANTIZERS = {"sgq", "torch_geometric", "yaml", "pydantic", "optuna"}
"""What `quantizers` never imports."""

HEAVY = ("torch_geometric", "optuna", "sklearn", "matplotlib", "tensorboard", "numba", "triton")
"""What `import sgq` alone never loads."""


def modules() -> list[Path]:
    return sorted(path for package in ("quantizers", "sgq") for path in (ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The first two parts of a module of sgq, or its facade; `quantizers` is one room."""
    parts = module.split(".")
    return parts[0] if parts[0] != "sgq" else ".".join(parts[:2])


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every (line, module) that a file imports."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    return imports_of(path.read_text(encoding="utf-8"), package=package)


def imports_of(text: str, *, package: str) -> Iterator[tuple[int, str]]:
    """Every (line, module) that a text imports, at the top or later; `from` names that are modules count."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = ROOT.joinpath(*source.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield node.lineno, f"{source}.{alias.name}" if is_module else source


def points_up(importer: str, module: str) -> bool:
    """Whether a module of a room of ours lies above the one that imports it."""
    return room(module) in LAYERS and LAYERS[room(module)] > LAYERS[room(importer)]


def exported(package: Path) -> set[str]:
    """The names in `__all__` and the functions defined in a package's `__init__`."""
    names: set[str] = set()
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                names |= set(ast.literal_eval(node.value)) if node.value else set()
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_every_module_lives_in_a_room_of_the_table() -> None:
    assert {room(dotted(path)) for path in modules()} <= set(LAYERS)


def test_imports_point_down_or_sideways() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules()
        for line, module in imported(path)
        if points_up(dotted(path), module)
    ]
    assert not faults, "\n".join(faults)


def test_the_quantizers_are_pure_torch() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules()
        if dotted(path).split(".")[0] == "quantizers"
        for line, module in imported(path)
        if module.split(".")[0] in NOT_FOR_QUANTIZERS
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("importer", "module", "up"),
    [
        ("sgq.graph.sites", "sgq.recipe.plan", True),
        ("sgq.pipeline.tasks", "sgq", True),
        ("quantizers.affine", "sgq.errors", False),
        ("sgq.pipeline.tasks", "sgq.cost.memory", False),
        ("sgq.cli.main", "sgq.graph.sites", False),
        ("sgq.graph.sites", "torch", False),
    ],
)
def test_the_rule_tells_up_from_down_and_sideways(importer: str, module: str, up: bool) -> None:
    assert points_up(importer, module) == up


def test_imports_are_found_at_the_top_within_functions_and_by_relative_names() -> None:
    lines = (
        "import sgq.graph.sites, torch",
        "from sgq import graph, apply",
        "def late():",
        "    from sgq.cli.main import main",
        "    from . import plan",
        "    from ..graph import buckets",
    )
    seen = [module for _, module in imports_of("\n".join(lines), package="sgq.recipe")]
    top = ["sgq.graph.sites", "torch", "sgq.graph", "sgq"]
    assert seen == [*top, "sgq.cli.main", "sgq.recipe.plan", "sgq.graph.buckets"]


@pytest.mark.parametrize(
    "package", sorted({path.parent for path in modules() if path.name == "__init__.py"}), ids=dotted
)
def test_no_submodule_hides_a_public_name_of_its_package(package: Path) -> None:
    submodules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert exported(package) & submodules == set()


@pytest.mark.parametrize("package", ["quantizers", "sgq"])
def test_every_folder_with_modules_is_a_package_and_ships_its_types(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert (ROOT / package / "py.typed").is_file()


def test_importing_sgq_loads_nothing_heavy() -> None:
    program = f"import sys, sgq; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
