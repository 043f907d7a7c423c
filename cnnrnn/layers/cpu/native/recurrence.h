// What the loops over time of all cells share, forward and backward: the arrays and their layouts.
//
// Letters: B batch, T steps, D inputs, H hidden units, P directions, G gates of a cell. A step has a number s in the
// order of its direction and a time t: t = s, or T - 1 - s in a direction that is reversed.
//
// The sequences are ranked by their lengths, the longest first. So those that are active at a step, that is not
// padding, have the ranks 0 to n - 1, and only they are computed. A row is one step of one active sequence; rows are
// numbered in the order of the steps, and within a step by rank. Some steps at a time, a chunk, are prepared before
// they are taken, and evaluated after they are taken back.
//
// The units of a layer are cut into slices of LANES units; the last is padded with zeros. Saved for backward, by rank:
//   gates [P, T, slices, B, G, LANES]  after their nonlinearities
//   cells [P, T, B, H]                 c of the LSTM after each step
// What belongs to padding is not written.
#pragma once

#include <stdint.h>

#include "product.h"
#include "team.h"

enum { MAX_DIRECTIONS = 2, MAX_BLOCKS = 2 };
enum { FORWARD_ROWS = 128, BACKWARD_ROWS = 512 };  // of a chunk, about: its arrays fit a cache

typedef struct {
  long B, T, D, H, P, slices;
  const float *x;                                       // [B, T, D]
  const float *h0, *c0, *mask;                          // [B, P, H]; `mask` multiplies h before the recurrent product
  const float *input_kernel, *recurrent_kernel, *bias;  // [P, D, G H], [P, H, G H], [P, G H]
  const int32_t *lengths, *reversed;                    // [B], [P]
  long *sequences;                                      // [B]: the sequence of each rank
  long *rows;                                           // [P, T + 1]: the number of the first row of each step
} Operands;

// Gates of a cell whose pre-activations are one product: W x + b + U v, where v is h * mask, or r * h * mask.
//
// Its columns are cut into panels of `width` vectors, so that the product of a panel and a few rows is computed in
// registers: 4 gates of one slice, say, or one gate of 2 slices. Vector number i of panel p holds
//   gate first_gate + i % num_gates of slice p * slices + i / num_gates, where slices = width / num_gates.
typedef struct {
  int width, first_gate, num_gates;
  int reset_gate;  // the gate r; -1 for none
} Block;

typedef struct Forward Forward;
typedef struct Backward Backward;

typedef struct {
  int num_gates, num_carries, num_blocks;
  Block blocks[MAX_BLOCKS];  // of the same width
  void (*step_forward)(Forward *f, Team *team);    // of all units and sequences
  void (*step_backward)(Backward *b, Team *team);  // step -1 only finishes the gradient of the initial carry
} Cell;

INLINE int slices_per_panel(const Block *block) { return block->width / block->num_gates; }

INLINE long panels_of(const Operands *o, const Block *block) { return divide_up(o->slices, slices_per_panel(block)); }

INLINE int gate_of(const Block *block, int i) { return block->first_gate + i % block->num_gates; }

// The first unit of vector number i of a panel; H or more if the vector is padding.
INLINE long unit_of(const Block *block, long panel, int i) {
  return (panel * slices_per_panel(block) + i / block->num_gates) * LANES;
}

INLINE long time_of(const Operands *o, long direction, long step) {
  return o->reversed[direction] ? o->T - 1 - step : step;
}

INLINE long row_of(const Operands *o, long direction, long step) { return o->rows[direction * (o->T + 1) + step]; }

// The number of sequences that are active at a step; 0 before the first step and after the last.
INLINE long num_active(const Operands *o, long direction, long step) {
  if (step < 0 || step >= o->T) return 0;
  return row_of(o, direction, step + 1) - row_of(o, direction, step);
}

// Indices of a rank in arrays of XLA, which are in the order of the sequences.
INLINE long carry_index(const Operands *o, long direction, long rank, long unit) {  // in [B, P, H]
  return (o->sequences[rank] * o->P + direction) * o->H + unit;
}

INLINE long x_index(const Operands *o, long direction, long step, long rank) {  // in [B, T, D]
  return (o->sequences[rank] * o->T + time_of(o, direction, step)) * o->D;
}

INLINE long output_index(const Operands *o, long direction, long step, long rank, long unit) {  // in [B, T, P, H]
  return ((o->sequences[rank] * o->T + time_of(o, direction, step)) * o->P + direction) * o->H + unit;
}

INLINE long gates_index(const Operands *o, int num_gates, long direction, long step, long rank, long unit) {
  return (((direction * o->T + step) * o->slices + unit / LANES) * o->B + rank) * num_gates * LANES;
}

INLINE long cell_index(const Operands *o, long direction, long step, long rank, long unit) {  // in [P, T, B, H]
  return ((direction * o->T + step) * o->B + rank) * o->H + unit;
}

static void rank_sequences(const Operands *o) {
  long rank = 0;
  for (long length = o->T; length >= 0; length--) {
    for (long sequence = 0; sequence < o->B; sequence++) {
      long clipped = o->lengths[sequence] < 0 ? 0 : o->lengths[sequence] > o->T ? o->T : o->lengths[sequence];
      if (clipped == length) o->sequences[rank++] = sequence;
    }
  }
  for (long direction = 0; direction < o->P; direction++) {
    long *rows = o->rows + direction * (o->T + 1);
    rows[0] = 0;
    for (long step = 0; step < o->T; step++) {
      for (rank = 0; rank < o->B && o->lengths[o->sequences[rank]] > time_of(o, direction, step);) rank++;
      rows[step + 1] = rows[step] + rank;
    }
  }
}

// How the work of a phase is split into tasks: a panel, and at most `max_count` of the `counts` rows or ranks of a
// direction.
typedef struct {
  long panels, max_count, counts[MAX_DIRECTIONS];
} Split;

// What one task computes: rows or ranks first to first + count - 1 of a panel.
typedef struct {
  long direction, panel, first, count;
} Part;

INLINE long num_groups(const Split *split, long direction) {
  return divide_up(split->counts[direction], split->max_count);
}

static long num_parts(const Split *split) {
  long parts = 0;
  for (long direction = 0; direction < MAX_DIRECTIONS; direction++) {
    parts += split->panels * num_groups(split, direction);
  }
  return parts;
}

INLINE Part part_of(const Split *split, long task) {
  long direction = 0, groups = num_groups(split, 0);
  while (task >= split->panels * groups) {
    task -= split->panels * groups;
    groups = num_groups(split, ++direction);
  }
  long count = split->counts[direction], first = part_start(count, task % groups, groups);
  return (Part){direction, task / groups, first, part_start(count, task % groups + 1, groups) - first};
}
