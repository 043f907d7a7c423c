"""Data sets whose batches can be asked for by number. NumPy only: nothing here imports JAX."""
