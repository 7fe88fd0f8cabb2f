"""A peer of our server: LitServe, with OpenCV's codec.

    MODEL=model.onnx PORT=8000 WORKERS=2 python benchmarks/peer_servers/litserve_server.py

It checks nothing and survives little. benchmarks/peers.py measures it.
"""

import base64
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import cv2
import litserve
import numpy as np
import onnxruntime


class Segmenter(litserve.LitAPI):
    """One worker of LitServe."""

    def setup(self, device):
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        data = np.frombuffer(base64.b64decode(request["img"]), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)

    def predict(self, pixels):
        return self.session.run(["mask"], {"pixels": pixels})[0]

    def encode_response(self, mask):
        _, png = cv2.imencode(".png", cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR))
        return {"img": base64.b64encode(png).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Segmenter(), accelerator="cpu", workers_per_device=int(os.environ["WORKERS"])
    )
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
