"""Tasks: what a batch means. The only place that knows a metric's name."""
