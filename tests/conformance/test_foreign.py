"""The suite as somebody else has it: a project of its own that can import flipcall, and nothing of these tests."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import flipcall.conformance
from tests.support import REPOSITORY, run_python

# The client of the tutorial's project, with something between it and whoever calls.
BETWEEN = """

class Between:
    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return lambda *args, **kwargs: {body}

def cut(result):
    return result[:-1] if isinstance(result, bytes) else result

def nameless(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except Exception as error:
        raise RuntimeError(str(error)) from None

@pytest.fixture
def connect(stack, tmp_path):
    return lambda service, **options: Between(
        stack.enter_context(flipcall.connect(service, str(tmp_path / "s"), **options))
    )
"""


def project() -> str:
    """The tutorial's test_mine.py."""
    text = (REPOSITORY / "docs/tutorial.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(# test_mine\.py\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def run(directory: Path, test: str) -> subprocess.CompletedProcess[str]:
    """pytest in that directory, where `test` is test_mine.py and `tests` cannot be imported."""
    (directory / "site").mkdir()
    (directory / "site/flipcall").symlink_to(REPOSITORY / "flipcall")
    (directory / "conftest.py").write_text("import sys\nsys.modules['tests'] = None\n")
    (directory / "test_mine.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:anyio", "-p", "no:cacheprovider", "."],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory / "site")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("way", ["socket", "window"])
def test_a_project_of_fifteen_lines_passes(tmp_path: Path, way: str) -> None:
    """The tutorial's file, outside of this repository, collects the modules it imports and passes them."""
    done = run(tmp_path, project().replace('"socket"', f'"{way}"'))
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 100


@pytest.mark.parametrize(
    ("body", "test", "says"),
    [
        ("cut(getattr(self.client, name)(*args, **kwargs))", "test_bytes_come_back[4096]", "assert b'"),
        (
            "nameless(getattr(self.client, name), *args, **kwargs)",
            "test_registered_types_arrive_as_themselves[KeyError]",
            "assert <class 'RuntimeError'> is <class 'KeyError'>",
        ),
    ],
    ids=["bytes cut", "types lost"],
)
def test_what_breaks_a_call_fails(tmp_path: Path, body: str, test: str, says: str) -> None:
    """A client that cuts bytes, or loses exceptions' types, fails, and is shown what differed; the rest passes."""
    done = run(tmp_path, project() + BETWEEN.format(body=body))
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"FAILED test_mine.py::{test}" in done.stdout
    assert says in done.stdout
    assert "test_defaults_and_keywords" not in done.stdout


def modules() -> list[str]:
    """Those of the package."""
    return [module.name for module in pkgutil.iter_modules(flipcall.conformance.__path__)]


def test_no_test_or_fixture_hides_another() -> None:
    """All modules can be imported into one file: no test, and no fixture, has the name of another's."""
    names: Counter[str] = Counter()
    for module in modules():
        tree = ast.parse((REPOSITORY / f"flipcall/conformance/{module}.py").read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        names.update(f.name for f in functions if f.name.startswith("test_") or f.decorator_list)
    assert [name for name, count in names.items() if count > 1] == []


def test_all_modules_are_named_where_a_reader_looks() -> None:
    """In the package's docstring."""
    listed = re.search(r"The modules: (.*?)\. Their", flipcall.conformance.__doc__ or "", re.DOTALL)
    assert listed is not None
    helpers = {"fixtures", "services", "waiting"}
    assert re.split(r",\s+", listed[1]) == sorted(set(modules()) - helpers)


def test_without_pytest() -> None:
    """`import flipcall` does not import the suite, which says what it needs."""

    def importing() -> None:
        import importlib
        import sys

        sys.modules["pytest"] = None  # type: ignore[assignment]
        importlib.import_module("flipcall.testing")
        assert "flipcall.conformance" not in sys.modules
        try:
            importlib.import_module("flipcall.conformance")
        except ImportError as error:
            print(type(error).__name__, error)

    done = run_python(importing)
    assert re.match(r"ImportError flipcall\.conformance .* pip install 'pytest", done.stdout), done.stderr
