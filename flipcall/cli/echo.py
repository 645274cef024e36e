"""What `flipcall demo` measures, and the program that serves it: `python -m flipcall.cli.echo SOCKET`."""

import sys

import msgspec

import flipcall


class Item(msgspec.Struct):
    """A small message: about 100 bytes on the wire."""

    id: int
    name: str
    payload: bytes


class Echo(flipcall.Service):
    """What the demo calls."""

    def echo(self, item: Item) -> Item:
        """The item itself."""
        raise NotImplementedError


class EchoServer(Echo):
    """The server's side."""

    def echo(self, item: Item) -> Item:
        return item


if __name__ == "__main__":
    flipcall.serve(EchoServer(), sys.argv[1], stop_with_parent=True)
