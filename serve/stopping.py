"""The end of a server: /healthz/ready falls first, then nobody is let in, then the socket closes.

A load balancer that asks for readiness sends nothing more by then. Whoever the kernel has let in
would be cut off when the socket closes, so the workers accept them before.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import socket
import struct
from contextlib import suppress
from typing import Any

# Seconds in which the workers accept whom the kernel has let in.
SECONDS_TO_ACCEPT = 0.3
# Linux's SO_ATTACH_FILTER, and a program for it (bpf(4)'s instructions: code, two jumps, number):
# load byte 13 of the TCP header, its flags; drop what has the flag SYN; keep all else. A client
# that knocks meanwhile tries again after a second, as it does when a packet gets lost.
ATTACH_FILTER = 26
NO_NEWCOMER = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 2**32 - 1))

# One byte that gunicorn's master shares with the workers that it forks.
_asked = mmap.mmap(-1, 1)


def asked() -> bool:
    """Return whether this server was asked to stop."""
    return _asked[0] != 0


def announce(server: Any, seconds: int) -> None:
    """Let a first SIGTERM be known at once and act after `seconds`; a second one acts at once.

    Call it in gunicorn's master, the `server`, after its own handler is there.
    """
    stop = signal.getsignal(signal.SIGTERM)

    def act(sig: int, frame: object) -> None:
        stop(signal.SIGTERM, frame)

    def call_last(sig: int, frame: object) -> None:
        # A socket that others gave us, or that we gave a new server (SIGUSR2), lives on.
        if not (server.systemd or server.master_pid or server.reexec_pid):
            for listener in server.LISTENERS:
                _let_nobody_in(listener.sock)
        signal.signal(signal.SIGALRM, act)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_ACCEPT)

    def on_term(sig: int, frame: object) -> None:
        if asked():
            act(sig, frame)
            return
        _asked[0] = 1
        signal.signal(signal.SIGALRM, call_last)
        if seconds:
            server.log.info("Asked to stop: still serving for %s s (DRAIN)", seconds)
            signal.alarm(seconds)
        else:
            call_last(sig, frame)

    signal.signal(signal.SIGTERM, on_term)


def _let_nobody_in(listener: socket.socket) -> None:
    lines = b"".join(struct.pack("HBBI", *line) for line in NO_NEWCOMER)
    program = ctypes.create_string_buffer(lines)
    at = struct.pack("HP", len(NO_NEWCOMER), ctypes.addressof(program))
    with suppress(OSError):  # no TCP, or no Linux
        listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, at)
