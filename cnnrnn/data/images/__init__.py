"""Sets of labelled images: published ones, the user's own, and the rule by which an image becomes a net's input."""
