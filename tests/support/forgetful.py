"""`gunicorn tests.support.forgetful:app`: workers that cannot open the model the first time.

The file that FORGETFUL names is there from the first attempt on.
"""

import os

import serve.app
import serve.canary
from tumour_segmenter.errors import ArtifactError
from tumour_segmenter.segmenter import Baseline


def open_model(*_: object) -> Baseline:
    try:
        os.close(os.open(os.environ["FORGETFUL"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return Baseline()
    raise ArtifactError("model.onnx cannot be run by onnxruntime (no memory)")


serve.canary.open_model = open_model
app = serve.app.app
