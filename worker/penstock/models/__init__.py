"""Models: bundles on disk, tokenizers, and embedders on ONNX Runtime."""
