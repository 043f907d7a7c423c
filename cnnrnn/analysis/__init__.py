"""What models compute, as arrays and numbers; cnnrnn/plots.py draws them."""
