"""`gunicorn tests.support.hanging:app`: the server with a model that a black image hangs in."""

import ctypes

import serve.app
from tumour_segmenter.segmenter import Baseline


class Hanging(Baseline):
    """Hangs as a native call does that does not heed what it is told."""

    def run(self, pixels, operating_point=None, probability=False, options=None):
        if pixels.any():
            return super().run(pixels, operating_point, probability, options)
        return ctypes.CDLL(None).sleep(600)


serve.app.open_model = lambda *_: Hanging()
app = serve.app.app
