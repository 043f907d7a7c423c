"""Convolutional and recurrent networks in JAX: readable, exact, resumable.

The whole is five frames deep: a config -> main -> training.loop -> training.step -> a task -> a model. Start reading
with training/step.py, then training/loop.py, then tasks/classification.py and models/lenet5.py.

Letters of shapes: B batch, H W C height, width and channels of an image, F filter size, K classes, N examples.

Floors; imports point down, and tests/test_floors.py holds this:
  5  main predict                 the programs
  4  training                     knows the type Task and never a task, nor a model
  3  tasks                        what a batch means; handed its model, never imports one
  2  models  data  optim          data: NumPy only
  1  layers  metrics  plots       plots: arrays in, a picture out
  0  config  signatures  command  errors
"""
