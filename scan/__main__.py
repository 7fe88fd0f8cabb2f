"""`python -m scan`: PET series to projections, masks and measurements."""

import signal
import sys

from tumour_segmenter import needs

if __name__ == "__main__":
    needs.check("serve", "numpy", "PIL", "onnxruntime", "tqdm")
    from tumour_segmenter.command import ignore_closed_output

    from .cli import main

    ignore_closed_output()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    sys.exit(main())
