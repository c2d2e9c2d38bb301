"""Methods, their layers, losses and encoders, and the registry that names them."""
