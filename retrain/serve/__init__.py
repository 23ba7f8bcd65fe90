"""The server: a model over HTTP, in its own dialect and in those of TensorFlow Serving and KServe."""
