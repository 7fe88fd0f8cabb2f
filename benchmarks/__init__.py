"""Measures a running server from outside: how right it is (scorer) and how fast (latency)."""

from tumour_segmenter import needs

# The environment that serves has not all that measures.
needs.check("benchmarks", "numpy", "PIL", "tqdm", "onnxruntime", "gunicorn", "matplotlib")
