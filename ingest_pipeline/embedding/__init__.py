"""Texts become unit-norm vectors: which model (`model`), in which groups (`batching`), by which engine (`engines`)."""
