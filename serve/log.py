"""One line of JSON for each request, on standard output. What was sent is never in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gunicorn.glogging import Logger

LONGEST_PATH = 200


class Log(Logger):
    """gunicorn's log of requests; that of the server itself stays as it is."""

    def access(self, resp, req, environ, request_time) -> None:
        """Write down a request that was answered, with what the app says about it."""
        known = {"id": None} | environ.get("serve.log", {})
        self._write(
            id=known.pop("id"),
            client=environ.get("REMOTE_ADDR"),
            method=environ["REQUEST_METHOD"],
            path=environ.get("PATH_INFO", "")[:LONGEST_PATH],
            status=int(str(resp.status).split()[0]),
            ms=round(request_time.total_seconds() * 1000, 2),
            bytes_in=int(environ.get("CONTENT_LENGTH") or 0),
            bytes_out=resp.sent,
            **known,
        )

    def refused(self, address, status: int, why: str) -> None:
        """Write down what did not become a request."""
        client = address[0] if isinstance(address, tuple) else None
        self._write(id=None, client=client, method=None, path=None, status=status, refused=why)

    def _write(self, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.access_log.info("%s", json.dumps({"time": now} | facts))
