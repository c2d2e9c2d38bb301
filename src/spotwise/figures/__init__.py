"""The figures of the paper, drawn from prediction and score files; one module per kind, looks in `figures.style`."""
