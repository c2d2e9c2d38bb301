"""The figures of the paper and of what it lacks, from files of a run; one module per kind, looks in `figures.style`."""
