"""gunicorn finds this file by itself when it is started in the project's folder."""

import os
import sys

from serve.segmenter import ArtifactError, read_checked
from serve.settings import Settings, SettingsError

try:
    settings = Settings.read()
except SettingsError as error:
    sys.exit(f"error: {error}")

bind = f"{settings.host}:{settings.port}"
workers = settings.workers

# Threads let a worker take in slow uploads and answer health checks while its model runs; the
# model itself takes one image at a time.
worker_class = "gthread"
threads = 8

# Longer than any client's pause between two images, so that a connection is not closed while the
# next image is under way.
keepalive = 75
timeout = 30
graceful_timeout = 10

# Heartbeats on a disk can stall a worker; nothing here is run through a control socket.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
control_socket_disable = True

accesslog = "-"
access_log_format = '%(t)s "%(r)s" %(s)s %(b)s bytes %(M)s ms'


def on_starting(server):
    """Stop before any worker is made if the model file is missing or damaged."""
    try:
        if settings.model:
            read_checked(settings.model)
    except ArtifactError as error:
        sys.exit(f"error: {error}")
