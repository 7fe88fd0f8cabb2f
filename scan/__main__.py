"""`python -m scan`: PET series to projections, masks and measurements."""

import signal
import sys

from scan.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    sys.exit(main())
