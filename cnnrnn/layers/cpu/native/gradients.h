// Back through time, and after each chunk of steps the gradients of kernels, bias and x: large products.
#pragma once

#include "backward.h"

enum { TILE = 8 };  // panels whose gradients stay in a cache while the factors are read

// The number of rows of a kernel whose gradient is one product.
INLINE long group_size(const Backward *b) { return ACCUMULATORS / b->cell->blocks[0].width; }

// Copies the `size` numbers of one row to its place in each group: [groups, rows, numbers of the group]. `group_size`
// is a constant where this is inlined.
INLINE void pack_row_fixed(const long group_size, const float *from, long size, long rows, long row, float *to) {
  for (long first = 0; first < size; first += group_size) {
    if (size - first >= group_size) {
      memcpy(to + first * rows + row * group_size, from + first, group_size * sizeof(float));
    } else {
      memcpy(to + first * rows + row * (size - first), from + first, (size - first) * sizeof(float));
    }
  }
}

static void pack_row(long group_size, const float *from, long size, long rows, long row, float *to) {
  switch (group_size) {
    case 3:
      return pack_row_fixed(3, from, size, rows, row, to);
    case 6:
      return pack_row_fixed(6, from, size, rows, row, to);
    case 12:
      return pack_row_fixed(12, from, size, rows, row, to);
    default:
      __builtin_trap();
  }
}

// What the kernels multiplied in the rows of a chunk: x, and h * mask or r * h * mask. The D or H numbers of a row are
// cut into groups, so that a product reads its factors one after the other.
//
// Task: direction, step.
static void pack_factors(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long direction = task / b->chunk, step = b->first_step + task % b->chunk, rows = chunk_rows(b, direction);
  float *factors = b->factor_row + task * o->slices * LANES;
  for (long rank = 0; rank < num_active(o, direction, step); rank++) {
    long row = row_in_chunk(b, direction, step) + rank;
    const float *h = h_before(b, direction, step, rank), *mask = o->mask + carry_index(o, direction, rank, 0);
    pack_row(group_size(b), o->x + x_index(o, direction, step, rank), o->D, rows, row,
             b->x_factors + direction * o->D * b->max_rows);
    for (long unit = 0; unit < o->H; unit += LANES) {
      *(Vector *)(factors + unit) = load(h + unit, o->H - unit) * load(mask + unit, o->H - unit);
    }
    for (int number = 0; number < b->cell->num_blocks; number++) {
      int reset_gate = b->cell->blocks[number].reset_gate;
      for (long unit = 0; unit < o->H && reset_gate >= 0; unit += LANES) {
        const float *gates = b->gates + gates_index(o, b->cell->num_gates, direction, step, rank, unit);
        *(Vector *)(factors + unit) *= *(const Vector *)(gates + reset_gate * LANES);
      }
      pack_row(group_size(b), factors, o->H, rows, row, b->h_factors[number] + direction * o->H * b->max_rows);
    }
  }
}

// Adds the gradient of a group of `count` rows of a kernel, in the columns of one panel: the product of their factors
// with the gradients of the pre-activations, over the rows of a chunk.
static void add_group_gradient(const Backward *b, long direction, long panel, const float *factors, long count,
                               float *to) {
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

INLINE long num_kernel_groups(const Backward *b, long kernel_rows) { return divide_up(kernel_rows, group_size(b)); }

// The gradients of the kernels of a block and of its bias, added up over the chunks. Task: direction, tile of panels,
// group of rows of a kernel, panel of the tile.
static void add_kernel_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long panels = panels_of(o, &b->cell->blocks[b->block]), x_groups = num_kernel_groups(b, o->D);
  long groups = x_groups + num_kernel_groups(b, o->H), direction = task / (groups * panels);
  long tile = task % (groups * panels) / (groups * TILE), in_tile = task % (groups * panels) % (groups * TILE);
  long tile_panels = panels - tile * TILE < TILE ? panels - tile * TILE : TILE;
  long group = in_tile / tile_panels, panel = tile * TILE + in_tile % tile_panels;
  if (group == 0) add_bias_gradient(b, direction, panel);
  int is_recurrent = group >= x_groups;
  long size = group_size(b), first = (is_recurrent ? group - x_groups : group) * size;
  long num_rows = is_recurrent ? o->H : o->D, count = num_rows - first < size ? num_rows - first : size;
  const float *factors = (is_recurrent ? b->h_factors[b->block] : b->x_factors) + direction * num_rows * b->max_rows;
  float *kernel = is_recurrent ? b->d_recurrent_kernel : b->d_input_kernel;
  add_group_gradient(b, direction, panel, factors + first * chunk_rows(b, direction), count,
                    kernel + (direction * num_rows + first) * b->cell->num_gates * o->H);
}

// dx of a chunk, of one direction after the other. Task: part.
static void add_input_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  Part part = part_of(&b->split, task);
  long direction = part.direction, step = b->first_step;
  int width = width_of(&b->dx_panels, part.panel);
  Vector sums[ACCUMULATORS] = {0};
  for (int number = 0; number < b->cell->num_blocks; number++) {
    const float *packed = packed_panel(b, number, b->packed_input[number], &b->dx_panels, direction, part.panel);
    add_transposed_product(b, number, direction, step, part.first, part.count, packed, width, sums);
  }
  for (long n = 0; n < part.count; n++) {
    while (row_in_chunk(b, direction, step) + num_active(o, direction, step) <= part.first + n) step++;
    long rank = part.first + n - row_in_chunk(b, direction, step);
    for (int v = 0; v < width; v++) {
      long feature = (first_vector(&b->dx_panels, part.panel) + v) * LANES, features = o->D - feature;
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
    if (o->slices % slices_per_panel(&b->cell->blocks[number]) == 0) continue;
    for (int i = 0; i < 2; i++) {  // a slice of padding is multiplied, but nobody writes to it
      memset(b->d_gates[number][i], 0, o->P * columns_of(b, number) * b->max_rows * sizeof(float));
    }
  }
}

static void run_backward(Backward *b, Team *team) {
  const Operands *o = &b->o;
  begin_backward(b);
  for (b->block = 0; b->block < b->cell->num_blocks; b->block++) {
    run_phase(team, pack_recurrent, b, o->P * b->dh_panels.count);
    run_phase(team, pack_input, b, o->P * b->dx_panels.count);
  }
  for (b->first_step = (o->T - 1) / b->max_chunk * b->max_chunk; b->first_step >= 0; b->first_step -= b->max_chunk) {
    b->chunk = o->T - b->first_step < b->max_chunk ? o->T - b->first_step : b->max_chunk;
    for (b->step = b->first_step + b->chunk - 1; b->step >= b->first_step; b->step--) b->cell->step_backward(b, team);
    run_phase(team, pack_factors, b, o->P * b->chunk);
    for (b->block = 0; b->block < b->cell->num_blocks; b->block++) {
      long groups = num_kernel_groups(b, o->D) + num_kernel_groups(b, o->H);
      run_phase(team, add_kernel_gradients, b, o->P * panels_of(o, &b->cell->blocks[b->block]) * groups);
    }
    for (long direction = 0; direction < o->P; direction++) {  // they add to the same dx
      b->split = (Split){.panels = b->dx_panels.count, .max_count = max_columns(&b->dx_panels)};
      b->split.counts[direction] = chunk_rows(b, direction);
      run_phase(team, add_input_gradients, b, num_parts(&b->split));
    }
  }
  b->step = -1;
  b->cell->step_backward(b, team);
}
