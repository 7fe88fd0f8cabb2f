"""`gunicorn tests.support.hanging:app`: the server with a model that a black image hangs in."""

import ctypes

import serve.app
from tumour_segmenter.segmenter import FOREVER, Baseline


class Hanging(Baseline):
    """Hangs as a native call does that does not heed what it is told."""

    def __call__(self, pixels, until=FOREVER, operating_point=None):
        if pixels.any():
            return super().__call__(pixels, until, operating_point)
        return self.call(until, ctypes.CDLL(None).sleep, 600)


serve.app.Baseline = Hanging
app = serve.app.app
