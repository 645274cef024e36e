"""The tutorial's code, run from top to bottom as a reader would; what it takes for granted is put in between."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import prometheus_client
import pytest
from numpy.typing import NDArray

import flipcall
from flipcall.testing import local
from tests.support import REPOSITORY

Names = dict[str, Any]


def blocks() -> Iterator[tuple[str, int, str]]:
    """The Python blocks: the section they are in, their number there, their code."""
    text = (REPOSITORY / "docs/tutorial.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        for number, code in enumerate(
            re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        ):
            yield title, number, code


class Reader:
    """What a reader has in mind beside the text: by section and block, what must be there before, and hold
    after."""

    def __init__(self, names: Names, stack: ExitStack) -> None:
        self.names = names
        self.stack = stack

    def serve(self, implementation: Any, path: str, **options: Any) -> None:
        """As flipcall.serve, but it returns."""
        self.stack.enter_context(flipcall.Server(implementation, path, **options))

    def connect(self, service: Any, path: str) -> Any:
        return self.stack.enter_context(flipcall.connect(service, path))

    def before_serving_0(self) -> None:
        self.names["book"] = {"ABC": 12.5, "DEF": 3.0}

    def after_serving_1(self) -> None:
        """A session is made for each client, with its peer."""
        with flipcall.connect(self.names["Market"], "market.sock"):
            pass
        self.stack.close()
        names = self.names

        class FullServer(names["MarketServer"]):  # type: ignore[misc]
            def quotes(self, symbols: list[str], *, limit: int = 10) -> list[Any]:
                return [self.quote(symbol) for symbol in symbols[:limit]]

            def history(self, symbol: str) -> bytes:
                return symbol.encode()

        names["FullServer"] = FullServer
        self.serve(FullServer(names["book"]), "market.sock")

    def before_deadlines_0(self) -> None:
        self.names["market"] = self.connect(self.names["Market"], "market.sock")

    def after_deadlines_1(self) -> None:
        """The handler gives up when its time is over."""
        self.names["parts"] = iter(int, 1)
        late = type("Late", (self.names["FullServer"],), {"history": self.names["history"]})
        with local(late({}), timeout=0.05) as market, pytest.raises(flipcall.DeadlineExceeded):
            market.history("ABC")

    def before_bulk_data_1(self) -> None:
        class Store(flipcall.Service):
            def read(self, fd: int, n: int, offset: int) -> bytes: ...  # type: ignore[empty-body]
            def write(self, data: bytes) -> None: ...

        written: list[bytes] = []
        methods = {"read": self.names["read"], "write": lambda self, data: written.append(data)}
        store = type("StoreServer", (Store,), methods)()
        self.names["written"] = written
        Path("a").write_bytes(b"content")
        store.files = {3: os.open("a", os.O_RDONLY)}
        self.stack.callback(os.close, store.files[3])
        self.serve(store, "store.sock")
        self.names.update(store=self.connect(Store, "store.sock"), fd=3, n=7, buffer=bytearray(10))

    def after_bulk_data_1(self) -> None:
        assert (self.names["size"], self.names["buffer"][:7]) == (7, b"content")
        Path("prices.bin").write_bytes(b"12.5")

    def after_bulk_data_2(self) -> None:
        assert self.names["written"] == [b"12.5"]

    def before_file_descriptors_1(self) -> None:
        files = self.names["FilesServer"]
        files.log_to = lambda self, file: file.close()
        self.serve(files(), "files.sock")
        self.names["files"] = self.connect(self.names["Files"], "files.sock")

    def before_streams_0(self) -> None:
        self.names["Tick"] = msgspec.defstruct("Tick", [("symbol", str), ("price", float)], module=__name__)
        self.names["prices"] = lambda symbol: iter([9.0, 11.0, 13.0])

    def before_streams_1(self) -> None:
        self.serve(self.names["FeedServer"](), "feed.sock")
        self.names.update(feed=self.connect(self.names["Feed"], "feed.sock"), parts=[b"abc", b"d"])

    def after_streams_1(self) -> None:
        assert self.names["tick"].price == 11.0

    def after_interceptors_and_metadata_1(self) -> None:
        assert self.names["market"].quote("ABC").price == 12.5
        self.stack.callback(self.names["market"].close)

    def after_interceptors_and_metadata_3(self) -> None:
        with self.names["server"]:
            assert b"flipcall_server_channels" in prometheus_client.generate_latest()
        assert self.names["market"].quote("DEF").price == 3.0
        self.names["market"].close()


def test_the_tutorial_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every block runs in the order of the text."""
    caplog.set_level(logging.INFO, "flipcall.calls")
    monkeypatch.chdir(tmp_path)
    collectors = prometheus_client.REGISTRY
    registered = set(collectors._collector_to_names)
    import zlib

    names: Names = {
        "__name__": __name__,
        "os": os,
        "zlib": zlib,
        "np": np,
        "NDArray": NDArray,
        "Iterator": Iterator,
    }
    with ExitStack() as stack:
        reader = Reader(names, stack)
        monkeypatch.setattr(flipcall, "serve", reader.serve)
        ran = []
        try:
            for title, number, code in blocks():
                step = f"{re.sub('[^a-z]+', '_', title.lower())}_{number}"
                for when in ("before", "after"):
                    hook: Callable[[], None] = getattr(reader, f"{when}_{step}", lambda: None)
                    hook()
                    if when == "before":
                        exec(
                            compile(
                                code, f"tutorial: {title}, block {number + 1}", "exec", dont_inherit=True
                            ),
                            names,
                        )
                ran.append(step)
        finally:
            for collector in set(collectors._collector_to_names) - registered:
                collectors.unregister(collector)
    hooks = {n.partition("_")[2] for n in vars(Reader) if n.startswith(("before_", "after_"))}
    assert hooks <= set(ran), "a block that the test knows of has gone"
    assert "content" in capsys.readouterr().out
    assert "Market.quote took" in caplog.text
