"""Training: torch, folds, augmentation, loss. Nothing of the serving side imports it."""

from tumour_segmenter import needs

needs.check("train", "numpy", "scipy", "torch", "safetensors", "onnx")
