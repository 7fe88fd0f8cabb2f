"""A peer of our server: the challenge template's stack, FastAPI and uvicorn, with OpenCV's codec.

    MODEL=model.onnx uvicorn --workers 2 --app-dir benchmarks/peer_servers fastapi_server:app

It checks nothing and survives little. benchmarks/peers.py measures it.
"""

import base64
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import cv2
import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

cv2.setNumThreads(1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)
app = FastAPI()


class Image(BaseModel):
    """A PNG in base64, of an image or of its mask."""

    img: str


@app.post("/predict")
def predict(request: Image) -> Image:
    data = np.frombuffer(base64.b64decode(request.img), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    (mask,) = session.run(["mask"], {"pixels": pixels})
    _, png = cv2.imencode(".png", cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR))
    return Image(img=base64.b64encode(png).decode())
