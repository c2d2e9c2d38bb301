"""Embeddings, retrieval and prediction of test slides."""
