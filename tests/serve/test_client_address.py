"""The client in the log: what a proxy says in X-Forwarded-For, if it is one that may say so."""

import pytest

from serve.request_log import client_address

LOCAL = ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "client"),
    [
        ("127.0.0.1", None, LOCAL, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", LOCAL, "203.0.113.9"),
        ("::ffff:127.0.0.1", "203.0.113.9", LOCAL, "203.0.113.9"),
        ("127.0.0.1", "2001:db8::7", LOCAL, "2001:db8::7"),
        # A client that sends the header itself is believed no more than without it.
        ("198.51.100.4", "203.0.113.9", LOCAL, "198.51.100.4"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.4", LOCAL, "198.51.100.4"),
        ("172.18.0.3", "203.0.113.9, 198.51.100.4", ["*"], "198.51.100.4"),
        # Two proxies of ours, one behind the other.
        ("10.0.0.2", "203.0.113.9, 198.51.100.4, 10.0.0.1", ["10.0.0.0/24"], "198.51.100.4"),
        ("10.0.0.2", "10.0.0.1", ["10.0.0.0/24"], "10.0.0.1"),
        # What is no address does not get into the log.
        ("127.0.0.1", "unknown", LOCAL, "127.0.0.1"),
        ("127.0.0.1", 'a"b, <script>', LOCAL, "127.0.0.1"),
        ("127.0.0.1", "", LOCAL, "127.0.0.1"),
        ("", "203.0.113.9", LOCAL, "203.0.113.9"),  # over a Unix socket
    ],
)
def test_who_the_client_is(peer, header, trusted, client):
    environ = {"REMOTE_ADDR": peer}
    if header is not None:
        environ["HTTP_X_FORWARDED_FOR"] = header
    assert client_address(environ, trusted) == client
