"""A client process that is stopped and continued, as by a shell or a debugger, while it installs its filter."""

from __future__ import annotations

from tests.support import run_python


def _install_while_stopped(rounds: int) -> None:
    import os
    import random
    import signal
    import sys
    import time

    from flipcall.notify import NotifyLink

    for _ in range(rounds):
        pid = os.fork()
        if pid == 0:
            try:
                NotifyLink.make()
            except BaseException as e:
                print(e, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        latest = time.monotonic() + 10
        status = None
        while status is None:
            done, code = os.waitpid(pid, os.WNOHANG)
            if done:
                status = code
            elif time.monotonic() > latest:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                sys.exit("it hangs")
            else:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(random.random() * 0.0002)
                os.kill(pid, signal.SIGCONT)
                time.sleep(random.random() * 0.0003)
        if status:
            sys.exit(1)


def test_stopped_while_installing() -> None:
    """The trapped call that measures begins anew under another number: taken again, and measured again."""
    done = run_python(_install_while_stopped, 150)
    assert done.returncode == 0, done.stderr
