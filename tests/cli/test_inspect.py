"""flipcall inspect: what a server offers, and who it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema

from tests.cli.conftest import Flipcall, one_line_error
from tests.support import Child


def test_json(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """The document has the service, its methods with signatures, the limits, and the server's credentials."""
    path, server = shop
    found = json.loads(flipcall("inspect", path, "--json").stdout)
    assert found["service"] == "Shop"
    assert found["peer"] == {"pid": server.pid, "uid": os.getuid(), "gid": os.getgid()}
    assert found["limits"]["window_bytes"] > 0
    methods = {method["name"]: method for method in found["methods"]}
    assert len(methods) == 14
    assert methods["add"]["signature"] == "add(a: int, b: int = 2) -> int"
    assert methods["add"]["parameters"] == [
        {"name": "a", "required": True, "bulk": False, "stream": False},
        {"name": "b", "required": False, "bulk": False, "stream": False},
    ]
    assert methods["digest"]["parameters"][0]["bulk"]
    assert methods["blob"]["bulk_result"]


def test_fingerprint_is_the_services(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """Asking twice gives the same fingerprint, of the service and of each method."""
    once, again = (json.loads(flipcall("inspect", shop[0], "--json").stdout) for _ in range(2))
    assert once["fingerprint"] == again["fingerprint"]
    assert once["methods"] == again["methods"]


def test_table(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """The table has every signature on a line, and the server's pid."""
    path, server = shop
    lines = flipcall("inspect", path).stdout.splitlines()
    assert any(line.endswith("add(a: int, b: int = 2) -> int") for line in map(str.rstrip, lines))
    assert any(f"pid {server.pid}," in line for line in lines)


def test_nobody_listens(flipcall: Flipcall, tmp_path: Path) -> None:
    """A file that is no socket, and no file at all, are one line each."""
    (tmp_path / "file").touch()
    assert "Connection refused" in one_line_error(flipcall("inspect", tmp_path / "file"), 1)
    assert "No such file" in one_line_error(flipcall("inspect", tmp_path / "none"), 1)


def test_server_that_does_not_answer(flipcall: Flipcall, tmp_path: Path) -> None:
    """Something that listens and says nothing is given up on after --timeout."""
    import socket

    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        one_line_error(flipcall("inspect", path, "--timeout", "0.2"), 1)


def test_schema(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """--schema is the whole service as JSON Schema, valid by the metaschema."""
    schema = json.loads(flipcall("inspect", shop[0], "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == "Shop"
    arguments = schema["properties"]["buy"]["properties"]["arguments"]
    assert arguments["properties"]["item"] == {"$ref": "#/$defs/Item"}


def test_health(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """It tells which services there are and how they are."""
    services = json.loads(flipcall("inspect", shop[0], "--json").stdout)["services"]
    assert services[""] == services["Shop"] == services["flipcall.Health"] == "serving"
