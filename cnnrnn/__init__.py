"""Convolutional and recurrent networks in JAX: readable, exact, resumable.

A run follows one path: config -> main -> training.loop -> training.step -> a task -> a model. Start reading with
training/step.py, then training/loop.py, tasks/task.py, tasks/classification.py and models/lenet5.py; for recurrent nets
layers/rnn/cells.py, then models/recurrent_lm.py and tasks/language_modelling.py.

Letters of shapes: B batch, T time, H W C height, width and channels of an image, F filter size, K classes,
V vocabulary, N examples or tokens; in recurrent layers D input size, H hidden size, n gates.

Levels ("floors"): an entry imports only from lower levels, except that entries of level 0 may import each other.
tests/test_floors.py checks this:
  6  main predict evaluate        the programs
  5  inference reports            predictions on the user's own input; the images of a finished run
  4  training                     knows the type Task, but no particular task or model
  3  tasks analysis               what a batch means; what a model computes
  2  models data optim            architectures; data sets, in NumPy without JAX; optimizers
  1  layers metrics decoding plots
  0  config config_file lookup signatures command fonts runtime errors
"""
