"""Recurrent layers: cells as equations, the loop over time, and linen modules."""
