"""Convolutional and recurrent networks in JAX: readable, exact, resumable.

One path runs through it: config -> main -> training.loop -> training.step -> a task -> a model. Start reading with
training/step.py, then training/loop.py, tasks/task.py, tasks/classification.py and models/lenet5.py; for recurrent nets
layers/rnn/cells.py, then models/recurrent_lm.py and tasks/language_modelling.py.

Letters of shapes: B batch, T time, H W C height, width and channels of an image, F filter size, K classes,
V vocabulary, N examples or tokens; in recurrent layers D input size, H hidden size, n gates.

Floors. Imports point down, and tests/test_floors.py checks it:
  6  main predict                 the programs
  5  inference reports            what a trained run answers to the user's own input; the images that it leaves
  4  training                     knows the type Task, and no task or model
  3  tasks analysis               what a batch means; what a model computes
  2  models data optim            data: NumPy only
  1  layers metrics decoding plots
  0  config config_file lookup signatures command runtime errors
"""
