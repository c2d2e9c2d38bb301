"""Training loop, dataset of spots, neighbourhoods and checkpoints."""
