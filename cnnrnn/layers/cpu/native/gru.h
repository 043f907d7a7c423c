// One step of the GRU, forward and backward: gates r, z, n and h' = z h + (1 - z) n, where n depends on U (r h).
//
// So a step has two products, and the threads wait for each other between them. The gates r and z of a slice are in one
// panel of the first block, n of two slices in one of the second.
#pragma once

#include "backward.h"
#include "forward.h"

enum { RESET_AND_UPDATE, CANDIDATE };  // the blocks

// r, z, and r h * mask. Task: part.
static void gru_reset_part(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  Part part = part_of(&f->split, task);
  long unit = part.panel * LANES, units = o->H - unit;
  Vector sums[ACCUMULATORS];
  compute_preactivations(f, RESET_AND_UPDATE, part, f->recurrent_inputs[0], sums);
  for (long n = 0; n < part.count; n++) {
    long factor = (part.direction * o->B + part.first + n) * o->H + unit;
    Vector *gates = (Vector *)(f->gates + gates_index(o, 3, part.direction, f->step, part.first + n, unit));
    Vector reset = gates[0] = sigmoid(sums[n * 2]);
    gates[1] = sigmoid(sums[n * 2 + 1]);
    store(f->recurrent_inputs[1] + factor, reset * load(f->recurrent_inputs[0] + factor, units), units);
  }
}

// n and h'. Task: part.
static void gru_candidate_part(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  Part part = part_of(&f->split, task);
  long direction = part.direction;
  Vector sums[ACCUMULATORS];
  compute_preactivations(f, CANDIDATE, part, f->recurrent_inputs[1], sums);
  for (int i = 0; i < 2; i++) {
    long unit = unit_of(&f->cell->blocks[CANDIDATE], part.panel, i), units = o->H - unit;
    for (long n = 0; n < part.count && units > 0; n++) {
      long rank = part.first + n, carry = carry_index(o, direction, rank, unit);
      Vector *gates = (Vector *)(f->gates + gates_index(o, 3, direction, f->step, rank, unit));
      Vector update = gates[1], candidate = gates[2] = hyperbolic_tangent(sums[n * 2 + i]);
      Vector h = update * load(f->h + carry, units) + (1.0f - update) * candidate;
      store(f->h + carry, h, units);
      store(f->recurrent_inputs[0] + (direction * o->B + rank) * o->H + unit, h * load(o->mask + carry, units), units);
      store(f->outputs + output_index(o, direction, f->step, rank, unit), h, units);
    }
  }
}

static void gru_step_forward(Forward *f, Team *team) {
  split_rows(f, RESET_AND_UPDATE, f->step, f->step + 1);
  run_phase(team, gru_reset_part, f, num_parts(&f->split));
  split_rows(f, CANDIDATE, f->step, f->step + 1);
  run_phase(team, gru_candidate_part, f, num_parts(&f->split));
}

// See `BackwardSlice`; dr, and what h receives through it, are not known yet.
INLINE void gru_backward_slice(Backward *b, long direction, long rank, long unit, Vector dh) {
  const Operands *o = &b->o;
  long units = o->H - unit, step = b->step;
  dh += load(b->d_outputs + output_index(o, direction, step, rank, unit), units);
  const Vector *gates = (const Vector *)(b->gates + gates_index(o, 3, direction, step, rank, unit));
  Vector update = gates[1], candidate = gates[2], h = load(h_before(b, direction, step, rank) + unit, units);
  Vector d_update = dh * (h - candidate) * update * (1.0f - update);
  Vector d_candidate = dh * (1.0f - update) * (1.0f - candidate * candidate);
  d_gates_of_slice(b, RESET_AND_UPDATE, direction, rank, unit)[1] = keep(d_update, units);  // padding may be NaN
  d_gates_of_slice(b, CANDIDATE, direction, rank, unit)[0] = keep(d_candidate, units);
  store(b->dh + carry_index(o, direction, rank, unit), dh * update, units);
}

// dz and dn. Task: part of dh.
static void gru_backward_candidate_part(void *data, long task) { backward_part(data, task, gru_backward_slice); }

// dr, and what h receives through r h. Task: part of dh.
static void gru_backward_reset_part(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  Part part = part_of(&b->split, task);
  int width = width_of(&b->dh_panels, part.panel);
  long direction = part.direction;
  Vector sums[ACCUMULATORS] = {0};
  add_product_of_step(b, CANDIDATE, part, b->step, part.count, sums);
  for (int v = 0; v < width; v++) {
    long unit = (first_vector(&b->dh_panels, part.panel) + v) * LANES, units = o->H - unit;
    for (long n = 0; n < part.count && units > 0; n++) {
      long rank = part.first + n, carry = carry_index(o, direction, rank, unit);
      Vector reset = *(const Vector *)(b->gates + gates_index(o, 3, direction, b->step, rank, unit));
      Vector h = load(h_before(b, direction, b->step, rank) + unit, units);
      Vector d_product = sums[n * width + v] * load(o->mask + carry, units);  // of r h
      Vector d_reset = d_product * h * reset * (1.0f - reset);
      d_gates_of_slice(b, RESET_AND_UPDATE, direction, rank, unit)[0] = keep(d_reset, units);
      store(b->dh + carry, load(b->dh + carry, units) + d_product * reset, units);
    }
  }
}

static void gru_step_backward(Backward *b, Team *team) {
  split_dh(b, 1);
  run_phase(team, gru_backward_candidate_part, b, num_parts(&b->split));
  split_dh(b, 0);
  run_phase(team, gru_backward_reset_part, b, num_parts(&b->split));
}

static const Cell GRU = {
    .num_gates = 3,
    .num_carries = 1,
    .num_blocks = 2,
    .blocks = {{.width = 2, .first_gate = 0, .num_gates = 2, .reset_gate = -1},
               {.width = 2, .first_gate = 2, .num_gates = 1, .reset_gate = 0}},
    .step_forward = gru_step_forward,
    .step_backward = gru_step_backward,
};
