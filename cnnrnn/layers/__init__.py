"""Layers: what the published architectures are made of. Images are [B, H, W, C], kernels [H, W, C in, C out]."""
