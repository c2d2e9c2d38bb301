"""Embeddings of a slide's spots, domains, variable genes and organisation."""
