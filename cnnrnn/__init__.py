"""Convolutional and recurrent networks in JAX: readable, exact, resumable.

The whole is five frames deep: a config -> main -> training.loop -> training.step -> a task -> a model. Start reading
with training/step.py, then training/loop.py, then tasks/classification.py and models/lenet5.py; for recurrent nets
layers/cells.py, then models/recurrent_lm.py and tasks/language_modelling.py.

Letters of shapes: B batch, H W C height, width and channels of an image, F filter size, K classes, N examples or
tokens; T time, D what goes into a recurrent layer, H its units, n the blocks of its kernel, V vocabulary.

Floors; imports point down, and tests/test_floors.py holds this:
  5  main predict                 the programs
  4  training                     knows the type Task and never a task, nor a model
  3  tasks                        what a batch means; handed its model, never imports one
  2  models  data  optim          data: NumPy only
  1  layers  metrics  decoding  plots     plots: arrays in, a picture out
  0  config  signatures  command  runtime  errors
"""
