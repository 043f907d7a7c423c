// Back through time: what the steps of the cells share. They compute the gradients of the carry and of the
// pre-activations alone; see gradients.h for what follows after a chunk of steps.
#pragma once

#include "recurrence.h"

struct Backward {
  const Cell *cell;
  Operands o;
  Panels dh_panels, dx_panels;
  long first_step, chunk, max_chunk, step, max_rows;  // see `Forward`
  int block;
  Split split;
  const float *d_outputs, *outputs, *cells, *gates;
  float *dx, *dh, *dc, *d_input_kernel, *d_recurrent_kernel, *d_bias;  // dh, dc [B, P, H]: of the carry
  float *packed_recurrent[MAX_BLOCKS], *packed_input[MAX_BLOCKS];      // transposed, see `pack_transposed`
  float *d_gates[MAX_BLOCKS][2];  // [P, panels, rows, width, LANES] of two chunks in turn: of the pre-activations
  float *x_factors, *h_factors[MAX_BLOCKS];  // [P, D or H, rows] of a chunk, see `pack_factors`
  float *factor_row;                         // [P, max_chunk, slices, LANES], of one row at a time
};

// The number of a row within its chunk.
INLINE long row_in_chunk(const Backward *b, long direction, long step) {
  return row_of(&b->o, direction, step) - row_of(&b->o, direction, step / b->max_chunk * b->max_chunk);
}

INLINE long chunk_rows(const Backward *b, long direction) {
  return row_of(&b->o, direction, b->first_step + b->chunk) - row_of(&b->o, direction, b->first_step);
}

// The gradients of the pre-activations of a panel, from a row of the chunk of a step on: [rows, width, LANES].
INLINE float *d_gates_of(const Backward *b, int number, long direction, long panel, long step, long row) {
  const Block *block = &b->cell->blocks[number];
  panel += direction * panels_of(&b->o, block);
  return b->d_gates[number][step / b->max_chunk % 2] + (panel * b->max_rows + row) * block->width * LANES;
}

// Those of a slice at the step, one vector for each gate of the block.
INLINE Vector *d_gates_of_slice(const Backward *b, int number, long direction, long rank, long unit) {
  const Block *block = &b->cell->blocks[number];
  long slice = unit / LANES, slices = slices_per_panel(block), row = row_in_chunk(b, direction, b->step) + rank;
  Vector *vectors = (Vector *)d_gates_of(b, number, direction, slice / slices, b->step, row);
  return vectors + slice % slices * block->num_gates;
}

// h before a step, as the layer returned it: [H].
INLINE const float *h_before(const Backward *b, long direction, long step, long rank) {
  const Operands *o = &b->o;
  if (rank >= num_active(o, direction, step - 1)) return o->h0 + carry_index(o, direction, rank, 0);
  return b->outputs + output_index(o, direction, step - 1, rank, 0);
}

// c of the LSTM before a step: [H].
INLINE const float *c_before(const Backward *b, long direction, long step, long rank) {
  const Operands *o = &b->o;
  if (rank >= num_active(o, direction, step - 1)) return o->c0 + carry_index(o, direction, rank, 0);
  return b->cells + cell_index(o, direction, step - 1, rank, 0);
}

INLINE long columns_of(const Backward *b, int number) {  // of a block, with the padding of its last panel
  return panels_of(&b->o, &b->cell->blocks[number]) * b->cell->blocks[number].width * LANES;
}

// One panel of the rows of a kernel [num_rows, G H]: [columns of the block, width, LANES].
static void pack_transposed(const Backward *b, const float *kernel, long num_rows, const Panels *panels, long panel,
                            float *to) {
  const Operands *o = &b->o;
  const Block *block = &b->cell->blocks[b->block];
  long columns = b->cell->num_gates * o->H, first = first_vector(panels, panel) * LANES;
  long end = first_vector(panels, panel + 1) * LANES;
  for (long column_panel = 0; column_panel < panels_of(o, block); column_panel++) {
    for (int i = 0; i < block->width; i++) {
      long unit = unit_of(block, column_panel, i);
      const float *from = kernel + gate_of(block, i) * o->H + unit;
      for (long lane = 0; lane < LANES; lane++, unit++, from++) {
        for (long row = first; row < end; row++) *to++ = unit < o->H && row < num_rows ? from[row * columns] : 0;
      }
    }
  }
}

// Where the packed panel of a direction begins.
INLINE float *packed_panel(const Backward *b, int number, float *packed, const Panels *panels, long direction,
                           long panel) {
  return packed + (direction * panels->vectors + first_vector(panels, panel)) * columns_of(b, number) * LANES;
}

// Task: direction, panel of dh.
static void pack_recurrent(void *data, long task) {
  Backward *b = data;
  long direction = task / b->dh_panels.count, panel = task % b->dh_panels.count, H = b->o.H;
  pack_transposed(b, b->o.recurrent_kernel + direction * H * b->cell->num_gates * H, H, &b->dh_panels, panel,
                  packed_panel(b, b->block, b->packed_recurrent[b->block], &b->dh_panels, direction, panel));
}

// Task: direction, panel of dx.
static void pack_input(void *data, long task) {
  Backward *b = data;
  long direction = task / b->dx_panels.count, panel = task % b->dx_panels.count;
  pack_transposed(b, b->o.input_kernel + direction * b->o.D * b->cell->num_gates * b->o.H, b->o.D, &b->dx_panels, panel,
                  packed_panel(b, b->block, b->packed_input[b->block], &b->dx_panels, direction, panel));
}

// Adds d U^T to `sums` [count, width], where d are the gradients of the pre-activations of a block in `count` rows from
// a row of the chunk of a step on, and `packed` is the panel of U.
static void add_transposed_product(const Backward *b, int number, long direction, long step, long row, long count,
                                   const float *packed, int width, Vector *sums) {
  const Block *block = &b->cell->blocks[number];
  long row_size = block->width * LANES;
  multiply(width, (int)count, panels_of(&b->o, block), row_size, packed,
           d_gates_of(b, number, direction, 0, step, row), b->max_rows * row_size, row_size, 1, sums);
}

// Adds d U^T of a block at a step to the first `count` ranks of a part.
static void add_product_of_step(const Backward *b, int number, Part part, long step, long count, Vector *sums) {
  const float *packed =
      packed_panel(b, number, b->packed_recurrent[number], &b->dh_panels, part.direction, part.panel);
  add_transposed_product(b, number, part.direction, step, row_in_chunk(b, part.direction, step) + part.first, count,
                         packed, width_of(&b->dh_panels, part.panel), sums);
}

// Adds d U^T of block 0 at the next step, for the ranks that are active there.
static void add_product_of_next_step(const Backward *b, Part part, Vector *sums) {
  long count = num_active(&b->o, part.direction, b->step + 1) - part.first;
  if (count > 0) add_product_of_step(b, 0, part, b->step + 1, count < part.count ? count : part.count, sums);
}

// Computes the gradients of the pre-activations of a slice from `dh`, the gradient of h after the step. The part of the
// gradient of the carry before the step that bypasses the gates is written to dh and dc.
typedef void BackwardSlice(Backward *b, long direction, long rank, long unit, Vector dh);

// Finishes dh for a part: what is there, and the product of the next step. Then the cell takes its step back. A
// sequence that is not active at this step begins at the next one: its dh is the gradient of the initial carry.
INLINE void backward_part(Backward *b, long task, BackwardSlice *step_slice) {
  const Operands *o = &b->o;
  Part part = part_of(&b->split, task);
  int width = width_of(&b->dh_panels, part.panel);
  Vector sums[ACCUMULATORS] = {0};
  add_product_of_next_step(b, part, sums);
  for (int v = 0; v < width; v++) {
    long unit = (first_vector(&b->dh_panels, part.panel) + v) * LANES, units = o->H - unit;
    for (long n = 0; n < part.count && units > 0; n++) {
      long rank = part.first + n, carry = carry_index(o, part.direction, rank, unit);
      Vector dh = load(b->dh + carry, units) + sums[n * width + v] * load(o->mask + carry, units);
      if (rank < num_active(o, part.direction, b->step)) {
        step_slice(b, part.direction, rank, unit, dh);
      } else {
        store(b->dh + carry, dh, units);
      }
    }
  }
}

// Splits dh for the ranks that are active at the step or, if `with_next`, at the next.
static void split_dh(Backward *b, int with_next) {
  b->split = (Split){.panels = b->dh_panels.count, .max_count = max_columns(&b->dh_panels)};
  for (long direction = 0; direction < b->o.P; direction++) {
    long here = num_active(&b->o, direction, b->step), next = num_active(&b->o, direction, b->step + 1);
    b->split.counts[direction] = with_next && next > here ? next : here;
  }
}
