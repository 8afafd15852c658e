"""Imports go downwards only, from floor to floor of the house."""

from __future__ import annotations

import ast
from pathlib import Path

import autodiff

PACKAGE = Path(autodiff.__file__).parent

FLOORS = [
    ["_build", "_native", "_caller", "pytree", "ir"],
    ["errors", "interpret"],
    ["ops"],
    ["transforms", "state"],
    ["passes"],
    ["plan"],
    ["lower"],
    ["callbacks", "threads"],
    ["executable"],
    ["evaluate"],
    ["numpy"],
    ["misuse"],
    ["lazy"],
    ["explain", "history"],
    ["storage"],
    ["operators"],
    ["tensor"],
    ["signature", "randomness"],
    ["trace", "callpath"],
    ["donation", "binding", "derivative"],
    ["compiled"],
    ["api"],
    ["optim", "special", "testing"],
    ["__init__"],
    ["digits"],
    ["train_digits"],
    ["__main__"],
]
"""Modules and packages of autodiff, from the bottom up; those of one floor do not know each other."""

LEVEL = {name: i for i, names in enumerate(FLOORS) for name in names}


def module_names() -> list[str]:
    return sorted({p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")})


def imports(path: Path) -> list[str]:
    """What a file imports of autodiff when it is itself imported, as modules of the top level.

    Imports in functions are left out: `ops` uses them for rules that need each other.
    """
    found = []
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            parts = (node.module or "").split(".")
            if parts == ["autodiff"]:
                found += [alias.name if alias.name in LEVEL else "__init__" for alias in node.names]
            elif parts[0] == "autodiff":
                found.append(parts[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found += ["__init__" if len(parts) == 1 else parts[1] for parts in names if parts[0] == "autodiff"]
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))
    return found


def test_every_module_has_a_floor() -> None:
    assert sorted(set(LEVEL) - {"_native", "_caller"}) == [n for n in module_names() if n != "data"]


def test_imports_go_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        upwards = [other for other in imports(path) if other != own and LEVEL[other] >= LEVEL[own]]
        assert upwards == [], f"{path.relative_to(PACKAGE)} imports upwards"


def test_functions_import_upwards_only_where_said() -> None:
    """`lazy` computes through `evaluate`, and rules of `ops` name each other."""
    allowed = {("lazy", "evaluate"), ("ops", "ops")}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autodiff."):
                other = (node.module or "").split(".")[1]
                assert other == own or LEVEL[other] < LEVEL[own] or (own, other) in allowed, f"{path}: {node.module}"
