// Forward through time: the packed kernels, W x + b of a chunk of steps, then the steps of the cell.
#pragma once

#include "recurrence.h"

struct Forward {
  const Cell *cell;
  Operands o;
  long first_step, chunk, max_chunk, step;  // a chunk of steps from first_step on; max_chunk: the longest
  long max_rows;                            // of a chunk
  int block;                                // of the phase
  Split split;                              // of the phase
  float *outputs, *h, *c, *cells, *gates;   // results; h, c [B, P, H]: the carry
  float *packed_input[MAX_BLOCKS], *packed_recurrent[MAX_BLOCKS];  // [P, panels, D or H, width, LANES]
  float *inputs;                 // [P, rows, D]: x of a chunk
  float *projected[MAX_BLOCKS];  // [P, panels, rows, width, LANES]: W x + b of a chunk
  // [P, B, H], by rank: what the recurrent kernel multiplies. LSTM: h * mask, of this step and of the next in turn;
  // GRU: h * mask and r * h * mask.
  float *recurrent_inputs[2];
};

// The kernels of a block, with the columns of a panel side by side. Task: direction, panel.
static void pack_kernels(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  const Block *block = &f->cell->blocks[f->block];
  long panels = panels_of(o, block), direction = task / panels, columns = f->cell->num_gates * o->H;
  for (int is_recurrent = 0; is_recurrent < 2; is_recurrent++) {
    long rows = is_recurrent ? o->H : o->D;
    const float *kernel = (is_recurrent ? o->recurrent_kernel : o->input_kernel) + direction * rows * columns;
    float *to = (is_recurrent ? f->packed_recurrent : f->packed_input)[f->block] + task * rows * block->width * LANES;
    for (long row = 0; row < rows; row++, kernel += columns) {
      for (int i = 0; i < block->width; i++, to += LANES) {
        long unit = unit_of(block, task % panels, i);
        *(Vector *)to = load(kernel + gate_of(block, i) * o->H + unit, o->H - unit);
      }
    }
  }
}

// x of the rows of a chunk. Task: direction, step.
static void gather_inputs(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  long direction = task / f->chunk, step = f->first_step + task % f->chunk;
  long row = row_of(o, direction, step) - row_of(o, direction, f->first_step);
  float *to = f->inputs + (direction * f->max_rows + row) * o->D;
  for (long rank = 0; rank < num_active(o, direction, step); rank++, to += o->D) {
    memcpy(to, o->x + x_index(o, direction, step, rank), o->D * sizeof(float));
  }
}

INLINE float *projected_of(const Forward *f, int number, long direction, long panel, long row) {
  const Block *block = &f->cell->blocks[number];
  panel += direction * panels_of(&f->o, block);
  return f->projected[number] + (panel * f->max_rows + row) * block->width * LANES;
}

// W x + b for the rows of a chunk. Task: part.
static void project_inputs(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  const Block *block = &f->cell->blocks[f->block];
  Part part = part_of(&f->split, task);
  long panel = part.direction * panels_of(o, block) + part.panel;
  Vector sums[ACCUMULATORS];
  for (int i = 0; i < block->width; i++) {
    long unit = unit_of(block, part.panel, i);
    Vector bias = load(o->bias + (part.direction * f->cell->num_gates + gate_of(block, i)) * o->H + unit, o->H - unit);
    for (long n = 0; n < part.count; n++) sums[n * block->width + i] = bias;
  }
  multiply(block->width, (int)part.count, 1, o->D, f->packed_input[f->block] + panel * o->D * block->width * LANES,
           f->inputs + (part.direction * f->max_rows + part.first) * o->D, 0, o->D, 1, sums);
  memcpy(projected_of(f, f->block, part.direction, part.panel, part.first), sums,
         part.count * block->width * sizeof(Vector));
}

// Splits the products of a block for the rows of some steps: those of one step are its active ranks.
static void split_rows(Forward *f, int number, long first_step, long end_step) {
  const Block *block = &f->cell->blocks[number];
  f->split = (Split){.panels = panels_of(&f->o, block), .max_count = ACCUMULATORS / block->width};
  for (long direction = 0; direction < f->o.P; direction++) {
    f->split.counts[direction] = row_of(&f->o, direction, end_step) - row_of(&f->o, direction, first_step);
  }
}

// W x + b + U v of a block, [count, width] vectors, where v is `inputs` [P, B, H].
static void compute_preactivations(const Forward *f, int number, Part part, const float *inputs, Vector *sums) {
  const Operands *o = &f->o;
  const Block *block = &f->cell->blocks[number];
  long panel = part.direction * panels_of(o, block) + part.panel;
  long row = row_of(o, part.direction, f->step) - row_of(o, part.direction, f->first_step) + part.first;
  memcpy(sums, projected_of(f, number, part.direction, part.panel, row), part.count * block->width * sizeof(Vector));
  multiply(block->width, (int)part.count, 1, o->H, f->packed_recurrent[number] + panel * o->H * block->width * LANES,
           inputs + (part.direction * o->B + part.first) * o->H, 0, o->H, 1, sums);
}

static void begin_forward(Forward *f) {
  const Operands *o = &f->o;
  rank_sequences(o);
  memcpy(f->h, o->h0, o->B * o->P * o->H * sizeof(float));
  if (f->c) memcpy(f->c, o->c0, o->B * o->P * o->H * sizeof(float));
  if (row_of(o, 0, o->T) < o->B * o->T) memset(f->outputs, 0, o->B * o->T * o->P * o->H * sizeof(float));  // of padding
  for (long direction = 0; direction < o->P; direction++) {
    for (long rank = 0; rank < o->B; rank++) {
      const long from = carry_index(o, direction, rank, 0), to = (direction * o->B + rank) * o->H;
      for (long unit = 0; unit < o->H; unit++) {
        float masked = o->h0[from + unit] * o->mask[from + unit];
        f->recurrent_inputs[0][to + unit] = f->recurrent_inputs[1][to + unit] = masked;
      }
    }
  }
}

static void run_forward(Forward *f, Team *team) {
  const Operands *o = &f->o;
  begin_forward(f);
  for (f->block = 0; f->block < f->cell->num_blocks; f->block++) {
    run_phase(team, pack_kernels, f, o->P * panels_of(o, &f->cell->blocks[f->block]));
  }
  for (f->first_step = 0; f->first_step < o->T; f->first_step += f->max_chunk) {
    f->chunk = o->T - f->first_step < f->max_chunk ? o->T - f->first_step : f->max_chunk;
    run_phase(team, gather_inputs, f, o->P * f->chunk);
    for (f->block = 0; f->block < f->cell->num_blocks; f->block++) {
      split_rows(f, f->block, f->first_step, f->first_step + f->chunk);
      run_phase(team, project_inputs, f, num_parts(&f->split));
    }
    for (f->step = f->first_step; f->step < f->first_step + f->chunk; f->step++) f->cell->step_forward(f, team);
  }
}
