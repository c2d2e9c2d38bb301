"""The structure of a tissue: joint embeddings of its spots, domains in them, variable genes, organisation."""
