// Back through time: the steps of the cell, and after each chunk of steps the gradients of kernels, bias and x.
#pragma once

#include "recurrence.h"

struct Backward {
  const Cell *cell;
  Operands o;
  Panels h, x;                                // of dh and of dx
  long first_step, chunk, max_chunk, step;    // see `Forward`
  int block;
  Split split;
  const float *d_outputs, *outputs, *cells, *gates;
  float *dx, *dh, *dc, *d_input_kernel, *d_recurrent_kernel, *d_bias;  // dh, dc [B, P, H]: of the carry
  float *packed_recurrent[MAX_BLOCKS], *packed_input[MAX_BLOCKS];      // transposed, see `pack_transposed`
  float *d_gates[MAX_BLOCKS][2];  // [P, panels, rows, width, LANES] of two chunks in turn: of the pre-activations
  float *x_factors, *h_factors[MAX_BLOCKS];  // [P, D or H, rows] of a chunk, see `pack_factors`
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
  return b->d_gates[number][step / b->max_chunk % 2] +
         (panel * b->max_chunk * b->o.B + row) * block->width * LANES;
}

// Those of a slice at the step, one vector for each gate of the block.
INLINE Vector *d_gates_of_slice(const Backward *b, int number, long direction, long rank, long unit) {
  const Block *block = &b->cell->blocks[number];
  long slice = unit / LANES, slices = slices_of(block), row = row_in_chunk(b, direction, b->step) + rank;
  Vector *vectors = (Vector *)d_gates_of(b, number, direction, slice / slices, b->step, row);
  return vectors + slice % slices * block->num_gates;
}

// h before a step, as the layer returned it: [H].
INLINE const float *h_before(const Backward *b, long direction, long step, long rank) {
  const Operands *o = &b->o;
  if (rank >= num_real(o, direction, step - 1)) return o->h0 + carry_index(o, direction, rank, 0);
  return b->outputs + output_index(o, direction, step - 1, rank, 0);
}

INLINE long columns_of(const Backward *b, int number) {  // of a block, with the padding of its last panel
  return panels_of(&b->o, &b->cell->blocks[number]) * b->cell->blocks[number].width * LANES;
}

// One panel of the rows of a kernel [num_rows, G H]: [columns of the block, width, LANES].
static void pack_transposed(const Backward *b, const float *kernel, long num_rows, const Panels *cut, long panel, float *to) {
  const Operands *o = &b->o;
  const Block *block = &b->cell->blocks[b->block];
  long columns = b->cell->num_gates * o->H, first = first_vector(cut, panel) * LANES;
  long end = first_vector(cut, panel + 1) * LANES;
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
INLINE float *packed_panel(const Backward *b, int number, float *packed, const Panels *cut, long direction, long panel) {
  return packed + (direction * cut->vectors + first_vector(cut, panel)) * columns_of(b, number) * LANES;
}

// Task: direction, panel of dh.
static void pack_recurrent(void *data, long task) {
  Backward *b = data;
  long direction = task / b->h.panels, panel = task % b->h.panels, H = b->o.H;
  pack_transposed(b, b->o.recurrent_kernel + direction * H * b->cell->num_gates * H, H, &b->h, panel,
                  packed_panel(b, b->block, b->packed_recurrent[b->block], &b->h, direction, panel));
}

// Task: direction, panel of dx.
static void pack_input(void *data, long task) {
  Backward *b = data;
  long direction = task / b->x.panels, panel = task % b->x.panels;
  pack_transposed(b, b->o.input_kernel + direction * b->o.D * b->cell->num_gates * b->o.H, b->o.D, &b->x, panel,
                  packed_panel(b, b->block, b->packed_input[b->block], &b->x, direction, panel));
}

// Adds d U^T to `sums` [count, width], where d are the gradients of the pre-activations of a block in `count` rows from
// a row of the chunk of a step on, and `packed` is the panel of U.
static void add_transposed_product(const Backward *b, int number, long direction, long step, long row, long count,
                                   const float *packed, int width, Vector *sums) {
  const Block *block = &b->cell->blocks[number];
  long row_size = block->width * LANES;
  multiply(width, (int)count, panels_of(&b->o, block), row_size, packed,
           d_gates_of(b, number, direction, 0, step, row), b->max_chunk * b->o.B * row_size, row_size, 1, sums);
}

// Adds d U^T of a block at a step to the first `count` ranks of a part.
static void add_product_of_step(const Backward *b, int number, Part part, long step, long count, Vector *sums) {
  add_transposed_product(b, number, part.direction, step, row_in_chunk(b, part.direction, step) + part.first, count,
                         packed_panel(b, number, b->packed_recurrent[number], &b->h, part.direction, part.panel),
                         width_of(&b->h, part.panel), sums);
}

// Adds d U^T of block 0 at the next step, for the ranks that are real there.
static void add_product_of_next_step(const Backward *b, Part part, Vector *sums) {
  long count = num_real(&b->o, part.direction, b->step + 1) - part.first;
  if (count > 0) add_product_of_step(b, 0, part, b->step + 1, count < part.count ? count : part.count, sums);
}

// The gradient of the carry h after a step: what is there, and the product of the next step.
INLINE Vector finish_dh(const Backward *b, long direction, long rank, long unit, Vector product) {
  long carry = carry_index(&b->o, direction, rank, unit), units = b->o.H - unit;
  return load(b->dh + carry, units) + product * load(b->o.mask + carry, units);
}

// Splits dh for the ranks that are real at the step or, if `with_next`, at the next.
static void split_dh(Backward *b, int with_next) {
  b->split = (Split){.panels = b->h.panels, .max_count = max_columns(&b->h)};
  for (long direction = 0; direction < b->o.P; direction++) {
    long here = num_real(&b->o, direction, b->step), next = num_real(&b->o, direction, b->step + 1);
    b->split.counts[direction] = with_next && next > here ? next : here;
  }
}

// What the kernels multiplied in the rows of a chunk. It is cut into groups of as many of the D or H numbers as a product
// has columns: [groups, rows, numbers of the group].
//
// Task: direction, step.
static void pack_factors(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long direction = task / b->chunk, step = b->first_step + task % b->chunk, rows = chunk_rows(b, direction);
  long size = ACCUMULATORS / b->cell->blocks[0].width, all_rows = b->max_chunk * o->B;
  for (long rank = 0; rank < num_real(o, direction, step); rank++) {
    long row = row_in_chunk(b, direction, step) + rank;
    const float *x = o->x + x_index(o, direction, step, rank), *h = h_before(b, direction, step, rank);
    const float *mask = o->mask + carry_index(o, direction, rank, 0);
    for (long first = 0; first < o->D; first += size) {
      long count = o->D - first < size ? o->D - first : size;
      float *to = b->x_factors + direction * o->D * all_rows + first * rows + row * count;
      for (long k = 0; k < count; k++) to[k] = x[first + k];
    }
    for (int number = 0; number < b->cell->num_blocks; number++) {
      int reset_gate = b->cell->blocks[number].reset_gate;
      for (long first = 0; first < o->H; first += size) {
        long count = o->H - first < size ? o->H - first : size;
        float *to = b->h_factors[number] + direction * o->H * all_rows + first * rows + row * count;
        for (long k = 0; k < count; k++) to[k] = h[first + k] * mask[first + k];
        for (long k = 0; k < count && reset_gate >= 0; k++) {
          const float *gates = b->gates + gates_index(o, b->cell->num_gates, direction, step, rank, first + k);
          to[k] *= gates[reset_gate * LANES + (first + k) % LANES];
        }
      }
    }
  }
}

// Adds the gradient of `count` rows of a kernel, in the columns of one panel: the product of the factors of those rows
// with the gradients of the pre-activations, over the rows of a chunk.
static void add_rows_gradient(const Backward *b, long direction, long panel, const float *factors, long count, float *to) {
  const Operands *o = &b->o;
  const Block *block = &b->cell->blocks[b->block];
  Vector sums[ACCUMULATORS] = {0};
  multiply(block->width, (int)count, 1, chunk_rows(b, direction),
           d_gates_of(b, b->block, direction, panel, b->first_step, 0), factors, 0, 1, count, sums);
  for (int i = 0; i < block->width; i++) {
    long unit = unit_of(block, panel, i), units = o->H - unit;
    for (long n = 0; n < count; n++) {
      float *row = to + (n * b->cell->num_gates + gate_of(block, i)) * o->H + unit;
      Vector sum = sums[n * block->width + i];
      store(row, b->first_step + b->chunk == o->T ? sum : sum + load(row, units), units);
    }
  }
}

static void add_bias_gradient(const Backward *b, long direction, long panel) {
  const Operands *o = &b->o;
  const Block *block = &b->cell->blocks[b->block];
  const Vector *d_gates = (const Vector *)d_gates_of(b, b->block, direction, panel, b->first_step, 0);
  for (int i = 0; i < block->width; i++) {
    long unit = unit_of(block, panel, i), units = o->H - unit;
    float *to = b->d_bias + (direction * b->cell->num_gates + gate_of(block, i)) * o->H + unit;
    Vector sum = b->first_step + b->chunk == o->T ? (Vector){0} : load(to, units);
    for (long row = 0; row < chunk_rows(b, direction); row++) sum += d_gates[row * block->width + i];
    store(to, sum, units);
  }
}

INLINE long kernel_groups(const Backward *b, long num_rows) {
  return divide_up(num_rows, ACCUMULATORS / b->cell->blocks[0].width);
}

// The gradients of the kernels of a block and of its bias, added up over the chunks. Task: direction, tile of panels,
// group of rows of a kernel, panel of the tile.
static void add_kernel_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long panels = panels_of(o, &b->cell->blocks[b->block]), x_groups = kernel_groups(b, o->D);
  long groups = x_groups + kernel_groups(b, o->H), direction = task / (groups * panels);
  long tile = task % (groups * panels) / (groups * TILE), in_tile = task % (groups * panels) % (groups * TILE);
  long tile_panels = panels - tile * TILE < TILE ? panels - tile * TILE : TILE;
  long group = in_tile / tile_panels, panel = tile * TILE + in_tile % tile_panels;
  if (group == 0) add_bias_gradient(b, direction, panel);
  int is_recurrent = group >= x_groups;
  long size = ACCUMULATORS / b->cell->blocks[0].width, first = (is_recurrent ? group - x_groups : group) * size;
  long num_rows = is_recurrent ? o->H : o->D, count = num_rows - first < size ? num_rows - first : size;
  const float *factors = (is_recurrent ? b->h_factors[b->block] : b->x_factors) + direction * num_rows * b->max_chunk * o->B;
  float *kernel = is_recurrent ? b->d_recurrent_kernel : b->d_input_kernel;
  add_rows_gradient(b, direction, panel, factors + first * chunk_rows(b, direction), count,
                    kernel + (direction * num_rows + first) * b->cell->num_gates * o->H);
}

// dx of a chunk, of one direction after the other. Task: part.
static void add_input_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  Part part = part_of(&b->split, task);
  long direction = part.direction, step = b->first_step;
  int width = width_of(&b->x, part.panel);
  Vector sums[ACCUMULATORS] = {0};
  for (int number = 0; number < b->cell->num_blocks; number++) {
    add_transposed_product(b, number, direction, step, part.first, part.count,
                           packed_panel(b, number, b->packed_input[number], &b->x, direction, part.panel), width, sums);
  }
  for (long n = 0; n < part.count; n++) {
    while (row_in_chunk(b, direction, step) + num_real(o, direction, step) <= part.first + n) step++;
    long rank = part.first + n - row_in_chunk(b, direction, step);
    for (int v = 0; v < width; v++) {
      long feature = (first_vector(&b->x, part.panel) + v) * LANES, features = o->D - feature;
      float *to = b->dx + x_index(o, direction, step, rank) + feature;
      store(to, load(to, features) + sums[n * width + v], features);
    }
  }
}

static void begin_backward(Backward *b) {
  const Operands *o = &b->o;
  rank_sequences(o);
  memset(b->dx, 0, o->B * o->T * o->D * sizeof(float));
  for (int number = 0; number < b->cell->num_blocks; number++) {
    if (o->slices % slices_of(&b->cell->blocks[number]) == 0) continue;
    for (int i = 0; i < 2; i++) {  // a slice of padding is multiplied, but nobody writes to it
      memset(b->d_gates[number][i], 0, o->P * columns_of(b, number) * b->max_chunk * o->B * sizeof(float));
    }
  }
}

static void run_backward(Backward *b, Team *team) {
  const Operands *o = &b->o;
  begin_backward(b);
  for (b->block = 0; b->block < b->cell->num_blocks; b->block++) {
    run_phase(team, pack_recurrent, b, o->P * b->h.panels);
    run_phase(team, pack_input, b, o->P * b->x.panels);
  }
  for (b->first_step = (o->T - 1) / b->max_chunk * b->max_chunk; b->first_step >= 0; b->first_step -= b->max_chunk) {
    b->chunk = o->T - b->first_step < b->max_chunk ? o->T - b->first_step : b->max_chunk;
    for (b->step = b->first_step + b->chunk - 1; b->step >= b->first_step; b->step--) b->cell->step_backward(b, team);
    run_phase(team, pack_factors, b, o->P * b->chunk);
    for (b->block = 0; b->block < b->cell->num_blocks; b->block++) {
      long groups = kernel_groups(b, o->D) + kernel_groups(b, o->H);
      run_phase(team, add_kernel_gradients, b, o->P * panels_of(o, &b->cell->blocks[b->block]) * groups);
    }
    for (long direction = 0; direction < o->P; direction++) {  // they add to the same dx
      b->split = (Split){.panels = b->x.panels, .max_count = max_columns(&b->x)};
      b->split.counts[direction] = chunk_rows(b, direction);
      run_phase(team, add_input_gradients, b, num_parts(&b->split));
    }
  }
  b->step = -1;
  b->cell->step_backward(b, team);
}
