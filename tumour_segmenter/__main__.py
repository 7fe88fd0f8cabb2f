"""`python -m tumour_segmenter COMMAND`, the same as `tumour-segmenter COMMAND`."""

import sys

from tumour_segmenter import needs

if __name__ == "__main__":
    needs.check("serve", "numpy", "PIL", "onnxruntime", "tqdm")
    from tumour_segmenter.cli.main import main

    sys.exit(main())
