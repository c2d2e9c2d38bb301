"""Figures of a run, one module per kind, drawn from its result files."""
