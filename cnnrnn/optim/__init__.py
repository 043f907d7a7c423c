"""Optimizers: rules of optax with schedules, weight decay by the names of the parameters, and averaging."""
