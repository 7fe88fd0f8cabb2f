"""How a server ends: who is let in until its socket closes."""

import signal
import socket
import time
from types import SimpleNamespace

import pytest

from serve import stopping


@pytest.fixture
def listener():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    stopping._asked[0] = 0


@pytest.mark.parametrize("shared", ["", "systemd", "master_pid", "reexec_pid"])
def test_a_socket_that_lives_on_lets_in_and_another_does_not(listener, shared):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(time.monotonic()))
    facts = {"systemd": False, "master_pid": 0, "reexec_pid": 0} | {shared: 1}
    stopping.announce(SimpleNamespace(LISTENERS=[SimpleNamespace(sock=listener)], **facts), 0)
    begun = time.monotonic()
    signal.raise_signal(signal.SIGTERM)
    if shared:
        socket.create_connection(listener.getsockname(), timeout=0.1).close()
    else:
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=0.1)
    assert stopping.asked()
    assert not ended
    time.sleep(2 * stopping.SECONDS_TO_ACCEPT)
    assert len(ended) == 1
    assert ended[0] - begun >= stopping.SECONDS_TO_ACCEPT


def test_a_second_signal_acts_at_once(listener):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    server = SimpleNamespace(LISTENERS=[], log=SimpleNamespace(info=lambda *_: None))
    stopping.announce(server, 60)
    signal.raise_signal(signal.SIGTERM)
    assert not ended
    signal.raise_signal(signal.SIGTERM)
    assert ended
    signal.alarm(0)
