"""flipcall call: arguments from JSON, results to JSON, errors in one line."""

from __future__ import annotations

import base64
import json

import pytest

from tests.cli.conftest import Flipcall, one_line_error
from tests.support import Child

Shop = tuple[str, Child]


@pytest.mark.parametrize(
    ("method", "arguments", "result"),
    [
        ("add", "[1, 3]", 4),
        ("add", "[1]", 3),
        ("add", "1", 3),
        ("add", '{"b": 5, "a": 1}', 6),
        ("buy", '[{"name": "tea", "price": 1.5}, 2]', {"name": "tea", "price": 3.0}),
        ("digest", json.dumps([base64.b64encode(bytes([1, 2, 250])).decode()]), 253),
    ],
)
def test_arguments_and_result(
    flipcall: Flipcall, shop: Shop, method: str, arguments: str, result: object
) -> None:
    """Arrays are arguments in order, objects by name, anything else the only one; bytes are base64."""
    done = flipcall("call", shop[0], method, arguments)
    assert done.stderr == ""
    assert json.loads(done.stdout) == result
    assert done.returncode == 0


def test_bytes_result_is_raw_in_a_pipe(flipcall: Flipcall, shop: Shop) -> None:
    """A bytes result goes into a file or pipe as it is, so that it can be used."""
    assert flipcall("call", shop[0], "blob", "5").stdout == "\x00\x01\x02\x03\x04"


def test_bytes_result_is_base64_in_json(flipcall: Flipcall, shop: Shop) -> None:
    """With --json it is a base64 string."""
    done = flipcall("call", shop[0], "blob", "[200]", "--json")
    assert base64.b64decode(json.loads(done.stdout)) == bytes(range(200))


@pytest.mark.parametrize(
    ("method", "arguments", "status", "said"),
    [
        ("dance", "[]", 2, "Shop has no method dance (it has add, bad, blob"),
        ("add", "[1", 2, "not JSON"),
        ("add", "[]", 2, "also needs a"),
        ("add", "[1, 2, 3]", 2, "takes 2 arguments, not 3"),
        ("add", '{"c": 1}', 2, "no parameter c"),
        ("add", '{"b": 1}', 2, "also needs a"),
        ("add", '["one"]', 1, "INVALID_ARGUMENT: add: Expected `int`, got `str`"),
        ("digest", "[5]", 2, "data is bytes: give it as a base64 string"),
        ("digest", '["?"]', 2, "data is bytes: give it as a base64 string"),
        ("fail", "[2]", 1, "FileNotFoundError: [Errno 2] No such file or directory"),
        ("bad", "[]", 1, "ZeroDivisionError: no"),
        ("lines", "[]", 1, "ValueError: two; lines \\x1b[31mred"),
    ],
)
def test_errors_are_one_line(
    flipcall: Flipcall, shop: Shop, method: str, arguments: str, status: int, said: str
) -> None:
    """My mistakes are status 2, the server's answers status 1; each is one printable line."""
    assert said in one_line_error(flipcall("call", shop[0], method, arguments), status)


def test_result_cannot_drive_the_terminal(flipcall: Flipcall, shop: Shop) -> None:
    """A string result is printed with escapes that JSON reads back as what was sent."""
    done = flipcall("call", shop[0], "escape")
    assert json.loads(done.stdout) == "\x1b[31m \x9b31m \u202e é"
    assert done.stdout.strip("\n").isprintable()


def test_timeout(flipcall: Flipcall, shop: Shop) -> None:
    """--timeout bounds the call; the error names the deadline."""
    line = one_line_error(flipcall("call", shop[0], "sleep", "[10]", "--timeout", "0.1"), 1)
    assert "deadline" in line.lower()


def test_server_that_dies(flipcall: Flipcall, shop: Shop) -> None:
    """A server that dies during the call is named by its pid."""
    path, server = shop
    assert str(server.pid) in one_line_error(flipcall("call", path, "die"), 1)


def test_nobody_there(flipcall: Flipcall, tmp_path: object) -> None:
    """No server: the path and the reason."""
    line = one_line_error(flipcall("call", f"{tmp_path}/none.sock", "add"), 1)
    assert f"cannot connect to {tmp_path}/none.sock: No such file or directory" in line
