"""Running jobs: logs and one-line errors, atomic files, devices, memory, provenance."""
