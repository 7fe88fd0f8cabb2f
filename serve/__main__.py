"""`python -m serve COMMAND`, the same as `tumour-segmenter COMMAND`."""

import sys

from serve.cli import main

if __name__ == "__main__":
    sys.exit(main())
