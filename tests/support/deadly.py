"""`gunicorn tests.support.deadly:app`: the server with a model that dies of a black image."""

import os
import signal

import serve.app
import serve.canary
from tumour_segmenter.segmenter import Baseline


class Deadly(Baseline):
    """Ends its process as a fault in native code does, or the kernel where memory is short."""

    def run(self, pixels, *others, **asked):
        if not pixels.any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(pixels, *others, **asked)


serve.canary.open_model = lambda *_: Deadly()
app = serve.app.app
