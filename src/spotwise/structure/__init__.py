"""Tissue structure: embeddings of a slide's spots, domains in them, variable genes, organisation."""
