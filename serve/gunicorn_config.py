"""How gunicorn serves: `gunicorn -c python:serve.gunicorn_config`; see gunicorn.conf.py."""

import ctypes
import errno
import os
import signal
import socket
import sys
import time
from contextlib import suppress

from tumour_segmenter.command import ignore_closed_output
from tumour_segmenter.errors import ArtifactError, SettingsError

from . import app, canary, metrics, siblings, stopping
from .request_log import RequestLog
from .settings import Settings, shown_host

try:
    settings = Settings.read()
except SettingsError as error:
    sys.exit(f"error: {error}")

ignore_closed_output()  # a log that nobody reads any more is no reason to write tracebacks
app.configured = True
wsgi_app = f"{__package__}.app:app"
bind = f"{shown_host(settings.host)}:{settings.port}"
workers = settings.workers

# glibc gives threads a heap each, and each keeps what the largest image took: one for all of them
# halves a worker's memory and costs no time (148 instead of 336 MB after images of 100 sizes).
# Where the C library is another one, this does nothing.
M_ARENA_MAX = -8
with suppress(OSError, AttributeError):
    ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, 1)

worker_class = f"{__package__}.worker.Worker"  # clients that are slow hold no thread
# Below the 1,024 files that a process may have open by default.
worker_connections = 900
# Nobody needs as many; gunicorn takes up to 8 kB of each.
limit_request_fields = 50

# Longer than nginx keeps its connections, and than any client's pause between two images, so that
# none is closed while the next image is under way.
keepalive = 75
# Whatever is in flight when the server is stopped is answered or refused by then.
graceful_timeout = settings.deadline + 1
# A worker gives a sign of life each second, whatever the model does. One that gives none for so
# long is replaced; while it starts, it is given longer.
timeout = 3
BOOT = 60

# Heartbeats on a disk can stall a worker; nothing here is run through a control socket.
memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
worker_tmp_dir = memory
control_socket_disable = True

accesslog = "-"
logger_class = RequestLog


def on_starting(server):
    """Stop before the port opens if no worker could serve, so that what is wrong is said once."""
    try:
        check_ports(server.cfg)
        canary.check(settings, app.served_model())
        if settings.metrics:
            metrics.open_folder(memory)
    except (ArtifactError, SettingsError) as error:
        sys.exit(f"error: {error}")


def check_ports(cfg):
    """Raise SettingsError if gunicorn could not listen; it would try five times, and at length."""
    if cfg.reuse_port or {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        return  # there are sockets already
    for address in cfg.address:
        if not isinstance(address, tuple):
            continue
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)  # to listen would let clients in that are cut off at once
            except OSError as error:
                where = f"port {address[1]} of {shown_host(address[0])}"
                if error.errno == errno.EADDRINUSE:
                    why = f"{where} is in use; stop what listens there, or set PORT= to another"
                else:
                    why = f"cannot listen on {where} ({error.strerror}); set HOST= and PORT="
                raise SettingsError(why) from error


def pre_fork(server, worker):
    """Give a worker its number, that of one that ended if there is any."""
    worker.number = siblings.free_number(server.WORKERS.values())


def post_fork(server, worker):
    """Give a new worker time to open the model; a preloaded app is made again after the fork."""
    ready_by = time.monotonic() + BOOT
    os.utime(worker.tmp.fileno(), (ready_by, ready_by))
    worker.app.callable = None
    metrics.begin(worker.number)


def when_ready(server):
    """Have /healthz/ready say that the server is about to stop, before it closes its socket."""
    stopping.announce(server, settings.drain)


def post_worker_init(worker):
    """Say when a worker can answer; from now on it must give its signs of life."""
    if not getattr(worker, "queue", None):
        worker.log.warning(
            "Not the worker of this server with serve.app:app: slow clients take its threads, and "
            "an image that hangs is not ended by itself"
        )
    # A machine that stood still must not cost what is in flight: a worker that the master asks why
    # it gave no sign of life, and that can still answer, stays. The next time it is killed.
    signal.signal(signal.SIGABRT, lambda *_: worker.notify())
    worker.notify()
    worker.log.info("Worker is ready (pid: %s)", worker.pid)
    if worker.age == 1:
        worker.log.info("Ready: %s", where(worker.sockets[0].getsockname()))


def where(address):
    """Return where people find the server, and who does."""
    if not isinstance(address, tuple):
        return address
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host, port = address[:2]
    url = f"http://{shown_host(everywhere.get(host, host))}:{port}"
    if host not in everywhere:
        return url
    return f"{url}, and for the whole network; HOST=127.0.0.1 would keep it to this machine"


def child_exit(server, worker):
    """Take a worker that ended out of the figures of what is going on now."""
    siblings.forget(worker.number)
    if settings.metrics:
        metrics.forget(worker.number)


def on_exit(server):
    """Leave nothing behind."""
    if settings.metrics:
        metrics.close_folder()
