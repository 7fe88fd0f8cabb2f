"""`python -m serve COMMAND`, the same as `tumour-segmenter COMMAND`."""

import sys

from serve import needs

if __name__ == "__main__":
    needs.check(*needs.SERVING)
    from serve.cli import main

    sys.exit(main())
