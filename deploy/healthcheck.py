"""Exit code 0 if the server of this container is ready, 1 if not. It is asked without any proxy."""

import http.client
import os

EVERYWHERE = {"", "0.0.0.0", "::"}  # what HOST says when the server listens on all addresses


def status(environ: dict[str, str], timeout: float = 4) -> int:
    """Return the HTTP status of the server's /healthz/ready; raises `OSError` without an answer."""
    host = environ.get("HOST", "").strip().strip("[]")
    host = "127.0.0.1" if host in EVERYWHERE else host
    port = int(environ.get("PORT", "").strip() or 8000)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    try:
        answered = status(dict(os.environ))
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(f"no answer: {error}") from None
    raise SystemExit(None if answered == 200 else f"not ready: {answered}")
