"""The gofer uses flipcall as any program would: by its public doors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gofer

PUBLIC = {"flipcall", "flipcall.lowlevel", "flipcall.testing", "flipcall.asyncio"}
SOURCE = Path(gofer.__file__).parent


def imported(path: Path) -> Iterator[str]:
    """The modules a file imports, and what of `flipcall` it takes that is a module by itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports would hide where they lead"
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_doors_only(path: Path) -> None:
    """No module imports one of flipcall's that is not a door, or touches a private name of flipcall's."""
    used = {name for name in imported(path) if name.split(".")[0] == "flipcall"}
    assert used <= PUBLIC
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "flipcall"
        ):
            assert hasattr(__import__("flipcall"), node.attr) or node.attr == "asyncio"
            assert node.attr in __import__("flipcall").__all__ or node.attr in (
                "asyncio",
                "lowlevel",
                "testing",
            )
