"""Forms of the layers' functions that XLA:CPU runs fast, with custom derivatives."""
