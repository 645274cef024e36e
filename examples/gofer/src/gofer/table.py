"""The protocol's table as Markdown: `python -m gofer.table`, for docs/gofer.md."""

from __future__ import annotations

import inspect

from gofer.protocol import Gofer, table


def markdown() -> str:
    """A row for each operation, in the order of protocol.py."""
    lines = ["| operation | guarantee | changes | what it does |", "|---|---|---|---|"]
    for name, row, does in table():
        parameters = list(inspect.signature(getattr(Gofer, name)).parameters)[1:]
        columns = [f"`{name}({', '.join(parameters)})`", row.guarantee.value, "yes" * row.changes, does]
        lines.append("| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
