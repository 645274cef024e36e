"""Owning a window: closing it early, late, twice, from two threads, and with views still alive."""

import gc
import mmap
import os
import threading
import warnings
from pathlib import Path

import pytest

from flipcall.allocator import MemfdAllocator, WindowAllocator
from flipcall.errors import ClosedError
from flipcall.window import PacketWindow

PAGE = mmap.PAGESIZE


def make(length: int = PAGE) -> PacketWindow:
    return MemfdAllocator().allocate(length)


def mapped() -> int:
    return sum("memfd:flipcall" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_close_twice() -> None:
    """Closing is idempotent."""
    window = make()
    window.close()
    window.close()
    assert window.closed


def test_close_from_many_threads() -> None:
    """Exactly one of many closers closes the descriptor, so that none closes somebody else's."""
    for _ in range(50):
        window = make()
        fd = window.fd
        barrier = threading.Barrier(4)

        def race(window: PacketWindow = window, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            window.close()

        threads = [threading.Thread(target=race) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_use_after_close() -> None:
    """Nothing but the plain facts is left after closing."""
    window = make()
    window.close()
    for use in (lambda: window.buffer, lambda: window.fd, window.__enter__):
        with pytest.raises(ClosedError):
            use()
    assert (window.length, window.offset, window.kind) == (PAGE, 0, "memfd")


def test_close_with_exported_view() -> None:
    """A view outlives close() and reads and writes real memory; the last one to go unmaps."""
    before = mapped()
    window = make()
    view = memoryview(window.buffer)[16:32]
    window.close()
    view[:] = b"x" * 16
    assert bytes(view) == b"x" * 16
    assert mapped() == before + 1
    view.release()
    del view
    gc.collect()
    assert mapped() == before


def test_drop_fd_keeps_the_mapping() -> None:
    """A side that will not hand the window on needs no descriptor."""
    with make() as window:
        fd = window.fd
        window.drop_fd()
        window.drop_fd()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
        with pytest.raises(ClosedError):
            _ = window.fd
        window.buffer[0] = 1
        assert "descriptor dropped" in repr(window)
    with pytest.raises(ClosedError):
        _ = window.fd


def test_context_manager_closes_on_error() -> None:
    """An exception in the block closes the window and goes on."""
    with pytest.raises(KeyError), make() as window:
        raise KeyError
    assert window.closed


def test_repr_says_kind_length_and_state() -> None:
    """What one needs in a log line."""
    window = make(2 * PAGE)
    assert repr(window) == f"<PacketWindow memfd, {2 * PAGE} bytes at 0, open>"
    window.close()
    assert repr(window) == f"<PacketWindow memfd, {2 * PAGE} bytes at 0, closed>"


def test_forgotten_window_warns_and_closes() -> None:
    """A window nobody closed says so and leaves nothing."""
    window = make()
    fd = window.fd
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del window
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_constructor_closes_on_error() -> None:
    """The descriptor is owned also by a window that could not be made."""
    r, w = os.pipe()
    os.close(w)
    with pytest.raises(OSError, match=r"No such device|Invalid argument|Permission"):
        PacketWindow(r, PAGE)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(r)


def test_allocator_closed() -> None:
    """A closed allocator makes no window; those it made live on."""
    allocator: WindowAllocator = MemfdAllocator()
    with allocator.allocate(PAGE) as window:
        allocator.close()
        allocator.close()
        with pytest.raises(ClosedError):
            allocator.allocate(PAGE)
        window.buffer[0] = 1
    assert "closed" in repr(allocator)
