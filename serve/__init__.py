"""The server: `/predict` over HTTP, a page for people, health and metrics, by gunicorn and gevent.

In the repository it is `serve`, in an installed package `tumour_segmenter.serve`.
"""

import time

# gunicorn's master imports this package before it forks, so every worker tells the same uptime.
STARTED = time.monotonic()
