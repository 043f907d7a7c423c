"""Models: one published architecture a file, under the paper's name. A linen module whose call takes `train`."""
