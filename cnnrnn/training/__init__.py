"""Training: one loop for every task. It knows the type Task and never a task, nor a model."""
