"""Tasks: what a batch means to a model, which metrics it has, and how predictions are made and scored."""
