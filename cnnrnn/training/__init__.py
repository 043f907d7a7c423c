"""Training: one loop for every task. It knows the type Task, and no task or model."""
