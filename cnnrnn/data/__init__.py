"""Data sets at random access: a batch is a function of (seed, step). NumPy only; no module here imports JAX."""
