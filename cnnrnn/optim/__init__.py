"""Optimizers: rules of optax with schedules, and with decay and rates by the names of the parameters."""
