"""The serving side: a grey PNG of a PET projection in, a tumour mask as PNG out."""

import time

__version__ = "0.9.0"

# gunicorn's master imports this package before it forks, so every worker tells the same uptime.
STARTED = time.monotonic()
