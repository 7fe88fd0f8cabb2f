"""gunicorn finds this file by itself when it is started in the project's folder."""

import ctypes
import importlib
import os
import sys
from contextlib import suppress

from serve import metrics, stopping
from serve.app import served_model
from serve.log import Log
from serve.segmenter import ArtifactError
from serve.settings import Settings, SettingsError

try:
    settings = Settings.read()
except SettingsError as error:
    sys.exit(f"error: {error}")

bind = f"{settings.host}:{settings.port}"
workers = settings.workers

# glibc gives threads a heap each, and each keeps what the largest image took: one for all of them
# halves a worker's memory and costs no time (148 instead of 336 MB after images of 100 sizes).
# Where the C library is another one, this does nothing.
M_ARENA_MAX = -8
with suppress(OSError, AttributeError):
    ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, 1)

# A thread for each image in hand, and some that answer all the others that there is no room.
worker_class = "serve.worker.Worker"
threads = settings.queue + 8
# Below the 1,024 files that a process may have open by default.
worker_connections = 900

# Longer than any client's pause between two images, so that a connection is not closed while the
# next image is under way.
keepalive = 75
# Whatever is in hand when the server is stopped is answered or refused by then.
graceful_timeout = settings.deadline + 1
# A worker gives a sign of life each second. One that gives none is asked, and replaced if it does
# not answer for another second; while it starts, it is given longer. See serve/worker.py.
timeout = 2

# Heartbeats on a disk can stall a worker; nothing here is run through a control socket.
memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
worker_tmp_dir = memory
control_socket_disable = True

accesslog = "-"
logger_class = Log


def on_starting(server):
    """Stop before any worker is made if it would fail, so that what is wrong is said once."""
    try:
        served_model()
        if settings.metrics:
            metrics.open_folder(memory)
    except (ArtifactError, SettingsError) as error:
        sys.exit(f"error: {error}")
    if failed := rehearse():
        sys.exit(failed)


def rehearse() -> int:
    """Return the exit code of a process that makes the app as a worker would; 0 if it can."""
    child = os.fork()  # the master must not: a session's threads do not survive the next fork
    if not child:
        code = 1
        try:
            importlib.import_module("serve.app").app  # noqa: B018
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def when_ready(server):
    """Have /healthz/ready say that the server is about to stop, before it closes its socket."""
    stopping.announce(settings.drain)


def post_worker_init(worker):
    """Say when a worker can answer; from now on it must give its signs of life."""
    worker.notify()
    worker.log.info("Worker is ready (pid: %s)", worker.pid)


def child_exit(server, worker):
    """Take a worker that ended out of the figures of what is going on now."""
    if settings.metrics:
        metrics.forget(worker.pid)


def on_exit(server):
    """Leave nothing behind."""
    if settings.metrics:
        metrics.close_folder()
