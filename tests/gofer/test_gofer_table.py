"""The protocol module reads as a table, the documentation shows that table, and the server implements it."""

from __future__ import annotations

from gofer_support import ROOT

from gofer.protocol import Gofer, table
from gofer.session import Session
from gofer.table import markdown

LISAFS = {
    "mount", "walk", "walk_stat", "stat", "set_stat", "open", "create", "close_fids", "fsync", "read", "write",
    "mkdir", "mknod", "symlink", "link", "statfs", "fallocate", "readlink", "flush", "connect", "unlink", "rename",
    "getdents", "get_xattr", "set_xattr", "list_xattr", "remove_xattr", "bind", "listen", "accept",
}  # fmt: skip
"""Its operations, by the names they have here; `channel` is flipcall's own."""


def test_documentation_is_in_step() -> None:
    """docs/gofer.md has the table as it is: `python -m gofer.table` writes it."""
    text = (ROOT / "docs" / "gofer.md").read_text()
    shown = text.split("<!-- python -m gofer.table -->\n")[1].split("<!-- end -->")[0]
    assert shown == markdown()


def test_every_operation_of_lisafs_is_there() -> None:
    """And what is not lisafs's says so, but for `donate`, which lisafs's open does."""
    rows = {name: does for name, _, does in table()}
    assert rows.keys() >= LISAFS
    for name in rows.keys() - LISAFS - {"donate"}:
        assert rows[name].endswith("Not in lisafs."), name


def test_every_row_is_implemented() -> None:
    """Every public method of the service is a row, and the session has it."""
    public = {name for name, value in vars(Gofer).items() if callable(value) and not name.startswith("_")}
    assert public == {name for name, *_ in table()}
    for name in public:
        assert getattr(Session, name) is not getattr(Gofer, name), name
