"""`python -m serve predict`: image files to mask files, without a server of one's own."""

import signal
import sys

from serve.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    sys.exit(main())
