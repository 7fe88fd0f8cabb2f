"""The end of a server, told before it comes: /healthz/ready falls first, the socket closes later.

A load balancer that asks for readiness sends nothing more by then, so no request meets a socket
that is closed.
"""

from __future__ import annotations

import mmap
import signal

# One byte that gunicorn's master shares with the workers that it forks.
_asked = mmap.mmap(-1, 1)


def asked() -> bool:
    """Return whether this server was asked to stop."""
    return _asked[0] != 0


def announce(seconds: int) -> None:
    """Let a first SIGTERM be known at once and act after `seconds`; a second one acts at once.

    Call it in gunicorn's master, after its own handler is there.
    """
    stop = signal.getsignal(signal.SIGTERM)

    def on_term(sig: int, frame: object) -> None:
        waiting = asked()
        _asked[0] = 1
        if seconds and not waiting:
            signal.alarm(seconds)
        else:
            stop(signal.SIGTERM, frame)

    signal.signal(signal.SIGALRM, lambda _, frame: stop(signal.SIGTERM, frame))
    signal.signal(signal.SIGTERM, on_term)
