"""cnnrnn."""
