"""The model process and how to speak to it. Only onnx.py may import onnxruntime, only llama.py llama_cpp."""
