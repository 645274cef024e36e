"""flipcall call: arguments from JSON, results to JSON, errors in one line."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("arguments", "options", "stdin", "out"),
    [
        (["count", "3"], [], "", "0\n1\n2\n"),
        (["count", "0"], [], "", ""),
        (["total", "[[1, 2, 3]]"], [], "", "6\n"),
        (["total", '{"times": 2, "numbers": [1, 2]}'], [], "", "6\n"),
        (["total"], ["--stdin"], "1\n\n2\n39", "42\n"),
        (["total", '{"times": 2}'], ["--stdin"], "1\n2\n", "6\n"),
        (["total", "[3]"], ["--stdin"], "1\n2\n", "9\n"),
        (["chunks", '"AAEC"'], [], "", "\x00\x01\x02"),
        (["chunks", '"AAEC"'], ["--json"], "", '"AA=="\n"AQ=="\n"Ag=="\n'),
    ],
)
def test_streams(
    flipcall: Flipcall, shop: Shop, arguments: list[str], options: list[str], stdin: str, out: str
) -> None:
    """Items of a result are a line each, bytes raw; a stream argument is an array, or the lines of stdin."""
    done = flipcall("call", shop[0], *arguments, *options, stdin=stdin)
    assert (done.stdout, done.stderr, done.returncode) == (out, "", 0)


def test_a_stream_that_ends_badly(flipcall: Flipcall, shop: Shop) -> None:
    """What came before is printed, and the error is a line and the status."""
    done = flipcall("call", shop[0], "count", "[2, true]")
    assert (done.stdout, done.returncode) == ("0\n1\n", 1)
    assert done.stderr == "flipcall: ValueError: enough\n"


def test_nobody_reads_the_items(shop: Shop) -> None:
    """A reader that has had enough (`| head`) ends a stream without a word."""
    line = [sys.executable, "-m", "flipcall.cli", "call", shop[0], "count", "[1000000000]"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"0\n"
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["total", "[5]"], "", "numbers takes several values"),
        (["total", '["abc"]'], "", "numbers takes several values"),
        (["total", "--stdin"], "1\nx\n", "a line of stdin is not JSON"),
        (["add", "[1]", "--stdin"], "", "no parameter that is a stream"),
    ],
)
def test_streams_that_are_none(
    flipcall: Flipcall, shop: Shop, arguments: list[str], stdin: str, said: str
) -> None:
    """My mistakes are status 2."""
    assert said in one_line_error(flipcall("call", shop[0], *arguments, stdin=stdin), 2)


def test_a_built_in_service(flipcall: Flipcall, shop: Shop) -> None:
    """--service asks for one by its name."""
    done = flipcall("call", shop[0], "check", "--service", "flipcall.Health")
    assert json.loads(done.stdout) == "serving"
    assert "this is Shop" in one_line_error(flipcall("call", shop[0], "check", "--service", "Nobody"), 1)
