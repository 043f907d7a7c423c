// One step of the LSTM, forward and backward: gates i, f, g, o and c' = f c + i g, h' = o tanh(c').
//
// All four gates of a slice are in one panel. So a thread computes the carry of its units in registers and never waits
// for another within a step.
#pragma once

#include "backward.h"
#include "forward.h"

// Task: part.
static void lstm_forward_part(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  Part part = part_of(&f->split, task);
  long direction = part.direction, unit = part.panel * LANES, units = o->H - unit;
  float *masked_h = f->recurrent_inputs[(f->step + 1) % 2];  // of the next step; others still read those of this one
  Vector sums[ACCUMULATORS];
  compute_preactivations(f, 0, part, f->recurrent_inputs[f->step % 2], sums);
  for (long n = 0; n < part.count; n++) {
    long rank = part.first + n, carry = carry_index(o, direction, rank, unit);
    Vector *gates = (Vector *)(f->gates + gates_index(o, 4, direction, f->step, rank, unit));
    Vector in = gates[0] = sigmoid(sums[n * 4]), forget = gates[1] = sigmoid(sums[n * 4 + 1]);
    Vector candidate = gates[2] = hyperbolic_tangent(sums[n * 4 + 2]), out = gates[3] = sigmoid(sums[n * 4 + 3]);
    Vector c = forget * load(f->c + carry, units) + in * candidate, h = out * hyperbolic_tangent(c);
    store(f->c + carry, c, units);
    store(f->h + carry, h, units);
    store(masked_h + (direction * o->B + rank) * o->H + unit, h * load(o->mask + carry, units), units);
    store(f->cells + cell_index(o, direction, f->step, rank, unit), c, units);
    store(f->outputs + output_index(o, direction, f->step, rank, unit), h, units);
  }
}

static void lstm_step_forward(Forward *f, Team *team) {
  split_rows(f, 0, f->step, f->step + 1);
  run_phase(team, lstm_forward_part, f, num_parts(&f->split));
}

// See `BackwardSlice`.
INLINE void lstm_backward_slice(Backward *b, long direction, long rank, long unit, Vector dh) {
  const Operands *o = &b->o;
  long units = o->H - unit, carry = carry_index(o, direction, rank, unit), step = b->step;
  dh += load(b->d_outputs + output_index(o, direction, step, rank, unit), units);
  const Vector *gates = (const Vector *)(b->gates + gates_index(o, 4, direction, step, rank, unit));
  Vector in = gates[0], forget = gates[1], candidate = gates[2], out = gates[3];
  Vector c = load(c_before(b, direction, step, rank) + unit, units);
  Vector tanh_c = hyperbolic_tangent(load(b->cells + cell_index(o, direction, step, rank, unit), units));
  Vector dc = load(b->dc + carry, units) + dh * out * (1.0f - tanh_c * tanh_c);
  Vector *d_gates = d_gates_of_slice(b, 0, direction, rank, unit);
  d_gates[0] = keep(dc * candidate * in * (1.0f - in), units);  // what pads a slice may be NaN
  d_gates[1] = keep(dc * c * forget * (1.0f - forget), units);
  d_gates[2] = keep(dc * in * (1.0f - candidate * candidate), units);
  d_gates[3] = keep(dh * tanh_c * out * (1.0f - out), units);
  store(b->dc + carry, dc * forget, units);
  store(b->dh + carry, (Vector){0}, units);  // h before the step acts through the product alone
}

// Task: part of dh.
static void lstm_backward_part(void *data, long task) { backward_part(data, task, lstm_backward_slice); }

static void lstm_step_backward(Backward *b, Team *team) {
  split_dh(b, 1);
  run_phase(team, lstm_backward_part, b, num_parts(&b->split));
}

static const Cell LSTM = {
    .num_gates = 4,
    .num_carries = 2,
    .num_blocks = 1,
    .blocks = {{.width = 4, .first_gate = 0, .num_gates = 4, .reset_gate = -1}},
    .step_forward = lstm_step_forward,
    .step_backward = lstm_step_backward,
};
