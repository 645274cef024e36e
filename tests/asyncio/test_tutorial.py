"""The tutorial's program for an event loop, run as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY


def test_the_program_runs_as_printed(tmp_path: Path) -> None:
    """It prints what its comments and numbers say."""
    text = (REPOSITORY / "docs/tutorial.md").read_text()
    section = text.split("## In an event loop\n")[1].split("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "rates.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "rates.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0.0, 2.0, 4.0]", "[0.0, 1.5, 3.0]"]
    assert not done.stderr
