"""The whole chain of a trained model in one file that needs none of this package: StableHLO, or ONNX."""
