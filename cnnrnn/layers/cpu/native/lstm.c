// The LSTM over whole sequences in one call, forward and backward, as XLA FFI handlers in float32.
//
// Letters: B batch, T steps, D inputs, H hidden units, P directions. A step has a number s in the order of its direction
// and a time t: t = s, or T - 1 - s in a direction that is reversed. A step at or after the length of a sequence is
// padding: the carry does not change, the output is 0, and so are its gradients.
//
// Operands: x [B, T, D]; h0, c0, mask [B, P, H]; input_kernel [P, D, 4 H], recurrent_kernel [P, H, 4 H], bias [P, 4 H]
// with the gates i, f, g, o; lengths [B] and reversed [P] int32. `mask` multiplies what enters the recurrent product.
//
// The units of a layer are cut into panels of LANES; the last is padded with zeros. Between forward and backward:
//   gates [P, T, panels, B, 4, LANES]  after their nonlinearities
//   cells [P, T, B, H]                 c after each step
//
// A product runs over one panel of all four gates and a group of at most COLUMNS sequences. So a thread computes the
// gates of its units in registers and never waits for another within a step.
#include <stdint.h>
#include <string.h>

#include "vectors.h"

#include "product.h"
#include "team.h"

enum { GATES = 4, ROW = GATES * LANES };  // ROW: floats of one unit panel for one sequence
enum { FORWARD_ROWS = 128, BACKWARD_ROWS = 256 };  // sequences times steps that are kept at a time: they fit a cache

typedef struct {
  long B, T, D, H, P, panels;
  const float *x, *h0, *c0, *mask, *input_kernel, *recurrent_kernel, *bias;
  const int32_t *lengths, *reversed;
} Operands;

INLINE long time_of(const Operands *o, long direction, long step) {
  return o->reversed[direction] ? o->T - 1 - step : step;
}

INLINE int is_valid(const Operands *o, long sequence, long time) { return time < o->lengths[sequence]; }

// ---- forward

typedef struct {
  Operands o;
  long groups, first_step, chunk, room, step;  // a chunk of steps from first_step on; room: the largest chunk
  float *outputs, *cells, *gates, *h, *c;      // h, c [B, P, H]: the carry, in the end the results
  float *packed_input, *packed_recurrent;      // [P, panels, D or H, ROW]
  float *projected;                            // [P, panels, room, B, ROW]: W x + b of a chunk
  float *entering[2];                          // [P, B, H]: h * mask before a step, and after it
} Forward;

// Kernels with the four gates of a panel side by side. Task: direction, panel.
static void pack_forward(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  long direction = task / o->panels, unit = task % o->panels * LANES;
  for (int recurrent = 0; recurrent < 2; recurrent++) {
    long rows = recurrent ? o->H : o->D;
    const float *kernel = (recurrent ? o->recurrent_kernel : o->input_kernel) + direction * rows * GATES * o->H;
    float *to = (recurrent ? f->packed_recurrent : f->packed_input) + task * rows * ROW;
    for (long row = 0; row < rows; row++) {
      for (int gate = 0; gate < GATES; gate++) {
        *(Vector *)(to + row * ROW + gate * LANES) = load(kernel + (row * GATES + gate) * o->H + unit, o->H - unit);
      }
    }
  }
}

// W x + b for the steps of a chunk. Task: direction and panel, step, group.
static void project_inputs(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  long group = task % f->groups, step = task / f->groups % f->chunk, panel = task / f->groups / f->chunk;
  long direction = panel / o->panels, unit = panel % o->panels * LANES;
  long first = part_start(o->B, group, f->groups), count = part_start(o->B, group + 1, f->groups) - first;
  Vector sums[ACCUMULATORS];
  for (int gate = 0; gate < GATES; gate++) {
    Vector bias = load(o->bias + (direction * GATES + gate) * o->H + unit, o->H - unit);
    for (long i = 0; i < count; i++) sums[i * GATES + gate] = bias;
  }
  long time = time_of(o, direction, f->first_step + step);
  multiply(GATES, (int)count, 1, o->D, f->packed_input + panel * o->D * ROW, o->x + (first * o->T + time) * o->D, 0,
           o->T * o->D, sums);
  memcpy(f->projected + ((panel * f->room + step) * o->B + first) * ROW, sums, count * ROW * sizeof(float));
}

// One step of a panel of units. Task: direction and panel, group.
static void step_forward(void *data, long task) {
  Forward *f = data;
  const Operands *o = &f->o;
  long group = task % f->groups, panel = task / f->groups, direction = panel / o->panels;
  long unit = panel % o->panels * LANES, units = o->H - unit, time = time_of(o, direction, f->step);
  long first = part_start(o->B, group, f->groups), count = part_start(o->B, group + 1, f->groups) - first;
  const float *before = f->entering[f->step % 2];
  float *after = f->entering[(f->step + 1) % 2];
  Vector sums[ACCUMULATORS];
  memcpy(sums, f->projected + ((panel * f->room + f->step - f->first_step) * o->B + first) * ROW,
         count * ROW * sizeof(float));
  multiply(GATES, (int)count, 1, o->H, f->packed_recurrent + panel * o->H * ROW,
           before + (direction * o->B + first) * o->H, 0, o->H, sums);
  for (long n = 0; n < count; n++) {
    long sequence = first + n, carry = (sequence * o->P + direction) * o->H + unit;
    Vector i = sigmoid(sums[n * GATES]), f_ = sigmoid(sums[n * GATES + 1]);
    Vector g = hyperbolic_tangent(sums[n * GATES + 2]), out = sigmoid(sums[n * GATES + 3]);
    Vector *gates = (Vector *)(f->gates + (((direction * o->T + f->step) * o->panels + unit / LANES) * o->B + sequence) * ROW);
    gates[0] = i, gates[1] = f_, gates[2] = g, gates[3] = out;
    Vector c = load(f->c + carry, units), h = load(f->h + carry, units), output = {0};
    if (is_valid(o, sequence, time)) {
      c = f_ * c + i * g;
      output = h = out * hyperbolic_tangent(c);
    }
    store(f->c + carry, c, units);
    store(f->h + carry, h, units);
    store(after + (direction * o->B + sequence) * o->H + unit, h * load(o->mask + carry, units), units);
    store(f->cells + ((direction * o->T + f->step) * o->B + sequence) * o->H + unit, c, units);
    store(f->outputs + ((sequence * o->T + time) * o->P + direction) * o->H + unit, output, units);
  }
}

static void run_forward(Forward *f, Team *team) {
  const Operands *o = &f->o;
  size_t carry_size = o->B * o->P * o->H * sizeof(float);
  memcpy(f->h, o->h0, carry_size);
  memcpy(f->c, o->c0, carry_size);
  for (long direction = 0; direction < o->P; direction++) {
    for (long sequence = 0; sequence < o->B; sequence++) {
      const long from = (sequence * o->P + direction) * o->H, to = (direction * o->B + sequence) * o->H;
      for (long unit = 0; unit < o->H; unit++) f->entering[0][to + unit] = o->h0[from + unit] * o->mask[from + unit];
    }
  }
  run_phase(team, pack_forward, f, o->P * o->panels);
  for (f->first_step = 0; f->first_step < o->T; f->first_step += f->room) {
    f->chunk = o->T - f->first_step < f->room ? o->T - f->first_step : f->room;
    run_phase(team, project_inputs, f, o->P * o->panels * f->chunk * f->groups);
    for (f->step = f->first_step; f->step < f->first_step + f->chunk; f->step++) {
      run_phase(team, step_forward, f, o->P * o->panels * f->groups);
    }
  }
}

// ---- backward

typedef struct {
  Operands o;
  long h_width, x_width, h_panels, x_panels;  // vectors and number of the panels of dh and of dx
  long first_step, chunk, room, step, direction;
  const float *d_outputs, *outputs, *cells, *gates;
  float *dx, *dh, *dc, *d_input_kernel, *d_recurrent_kernel, *d_bias;  // dh, dc [B, P, H]: of the carry
  float *packed_recurrent, *packed_input;  // transposed: [P, h_panels or x_panels, panels, ROW, width, LANES]
  float *d_gates[2];                       // [P, panels, room, B, ROW]: of the pre-activations, of two chunks in turn
  float *x_columns, *h_columns;            // [P, D or H, room * B]: what the kernels multiplied, of a chunk
} Backward;

INLINE float *d_gates_of(const Backward *b, long direction, long panel, long step) {
  const Operands *o = &b->o;
  return b->d_gates[step / b->room % 2] +
         ((direction * o->panels + panel) * b->room + step % b->room) * o->B * ROW;
}

static void pack_transposed(const Operands *o, const float *kernel, long num_rows, long panel, long width, float *to) {
  for (long k = 0; k < o->panels * ROW; k++) {
    long unit = k / ROW * LANES + k % LANES, gate = k % ROW / LANES;
    for (long lane = 0; lane < width * LANES; lane++) {
      long row = panel * width * LANES + lane;
      to[k * width * LANES + lane] = unit < o->H && row < num_rows ? kernel[(row * GATES + gate) * o->H + unit] : 0;
    }
  }
}

// Task: direction, panel of dh.
static void pack_recurrent(void *data, long task) {
  Backward *b = data;
  long direction = task / b->h_panels, H = b->o.H;
  pack_transposed(&b->o, b->o.recurrent_kernel + direction * H * GATES * H, H, task % b->h_panels, b->h_width,
                  b->packed_recurrent + task * b->o.panels * ROW * b->h_width * LANES);
}

// Task: direction, panel of dx.
static void pack_input(void *data, long task) {
  Backward *b = data;
  long direction = task / b->x_panels;
  pack_transposed(&b->o, b->o.input_kernel + direction * b->o.D * GATES * b->o.H, b->o.D, task % b->x_panels, b->x_width,
                  b->packed_input + task * b->o.panels * ROW * b->x_width * LANES);
}

// The gradient of the pre-activations of one sequence, one panel of units and one step, and of the carry before it.
INLINE void step_back_one(Backward *b, long direction, long sequence, long unit, Vector dh) {
  const Operands *o = &b->o;
  long units = o->H - unit, carry = (sequence * o->P + direction) * o->H + unit, step = b->step;
  long time = time_of(o, direction, step);
  Vector *to = (Vector *)(d_gates_of(b, direction, unit / LANES, step) + sequence * ROW);
  if (!is_valid(o, sequence, time)) {
    store(b->dh + carry, dh, units);
    to[0] = to[1] = to[2] = to[3] = (Vector){0};
    return;
  }
  dh += load(b->d_outputs + ((sequence * o->T + time) * o->P + direction) * o->H + unit, units);
  const Vector *gates =
      (const Vector *)(b->gates + (((direction * o->T + step) * o->panels + unit / LANES) * o->B + sequence) * ROW);
  Vector i = gates[0], f = gates[1], g = gates[2], out = gates[3];
  const float *cell = b->cells + ((direction * o->T + step) * o->B + sequence) * o->H + unit;
  Vector before = load(step ? cell - o->B * o->H : o->c0 + carry, units);
  Vector shown = hyperbolic_tangent(load(cell, units));
  Vector dc = load(b->dc + carry, units) + dh * out * (1.0f - shown * shown);
  to[0] = dc * g * i * (1.0f - i);
  to[1] = dc * before * f * (1.0f - f);
  to[2] = dc * i * (1.0f - g * g);
  to[3] = dh * shown * out * (1.0f - out);
  store(b->dc + carry, dc * f, units);
}

// One step back in time; step -1 only finishes the gradient of the first carry. Task: direction, panel of dh, group.
static void step_backward(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long groups = divide_up(o->B, ACCUMULATORS / b->h_width), group = task % groups, panel = task / groups;
  long direction = panel / b->h_panels, next = b->step + 1;
  long first = part_start(o->B, group, groups), count = part_start(o->B, group + 1, groups) - first;
  Vector sums[ACCUMULATORS] = {0};
  if (next < o->T) {
    multiply((int)b->h_width, (int)count, o->panels, ROW,
             b->packed_recurrent + panel * o->panels * ROW * b->h_width * LANES,
             d_gates_of(b, direction, 0, next) + first * ROW, b->room * o->B * ROW, ROW, sums);
  }
  for (long v = 0; v < b->h_width; v++) {
    long unit = (panel % b->h_panels * b->h_width + v) * LANES;
    if (unit >= o->H) break;
    for (long n = 0; n < count; n++) {
      long sequence = first + n, carry = (sequence * o->P + direction) * o->H + unit, units = o->H - unit;
      Vector dh = load(b->dh + carry, units);  // what a step of padding has passed on
      if (next < o->T && is_valid(o, sequence, time_of(o, direction, next))) {
        dh = sums[n * b->h_width + v] * load(o->mask + carry, units);
      }
      if (b->step >= 0) {
        step_back_one(b, direction, sequence, unit, dh);
      } else {
        store(b->dh + carry, dh, units);
      }
    }
  }
}

// x and h before each step of a chunk, a row for each unit. Task: direction, step.
static void transpose_inputs(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long direction = task / b->chunk, slot = task % b->chunk, step = b->first_step + slot, rows = b->chunk * o->B;
  long time = time_of(o, direction, step);
  for (long sequence = 0; sequence < o->B; sequence++) {
    float *x_to = b->x_columns + direction * o->D * rows + slot * o->B + sequence;
    float *h_to = b->h_columns + direction * o->H * rows + slot * o->B + sequence;
    if (!is_valid(o, sequence, time)) {  // padding may hold anything
      for (long k = 0; k < o->D; k++) x_to[k * rows] = 0;
      for (long k = 0; k < o->H; k++) h_to[k * rows] = 0;
      continue;
    }
    const float *x = o->x + (sequence * o->T + time) * o->D, *mask = o->mask + (sequence * o->P + direction) * o->H;
    const float *h = o->h0 + (sequence * o->P + direction) * o->H;
    long previous = step ? time_of(o, direction, step - 1) : 0;
    if (step && is_valid(o, sequence, previous)) h = b->outputs + ((sequence * o->T + previous) * o->P + direction) * o->H;
    for (long k = 0; k < o->D; k++) x_to[k * rows] = x[k];
    for (long k = 0; k < o->H; k++) h_to[k * rows] = h[k] * mask[k];
  }
}

// The gradients of kernels and bias, added up over the chunks. Task: direction and panel, group of rows of a kernel.
static void add_kernel_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long x_groups = divide_up(o->D, COLUMNS), h_groups = divide_up(o->H, COLUMNS), groups = x_groups + h_groups;
  long group = task % groups, panel = task / groups, direction = panel / o->panels, unit = panel % o->panels * LANES;
  long units = o->H - unit, rows = b->chunk * o->B, is_recurrent = group >= x_groups;
  long num_rows = is_recurrent ? o->H : o->D, parts = is_recurrent ? h_groups : x_groups;
  long part = is_recurrent ? group - x_groups : group, is_first = b->first_step + b->chunk == o->T;
  long first = part_start(num_rows, part, parts), count = part_start(num_rows, part + 1, parts) - first;
  const float *columns = (is_recurrent ? b->h_columns : b->x_columns) + (direction * num_rows + first) * rows;
  float *to = (is_recurrent ? b->d_recurrent_kernel : b->d_input_kernel) + (direction * num_rows + first) * GATES * o->H;
  const float *d_gates = d_gates_of(b, direction, unit / LANES, b->first_step);
  Vector sums[ACCUMULATORS] = {0};
  for (long n = 0; n < count && !is_first; n++) {
    for (int gate = 0; gate < GATES; gate++) sums[n * GATES + gate] = load(to + (n * GATES + gate) * o->H + unit, units);
  }
  multiply(GATES, (int)count, 1, rows, d_gates, columns, 0, rows, sums);
  for (long n = 0; n < count; n++) {
    for (int gate = 0; gate < GATES; gate++) store(to + (n * GATES + gate) * o->H + unit, sums[n * GATES + gate], units);
  }
  for (int gate = 0; gate < GATES && group == 0; gate++) {
    float *bias = b->d_bias + (direction * GATES + gate) * o->H + unit;
    Vector sum = is_first ? (Vector){0} : load(bias, units);
    for (long row = 0; row < rows; row++) sum += *(const Vector *)(d_gates + row * ROW + gate * LANES);
    store(bias, sum, units);
  }
}

// dx of a chunk, of one direction after the other. Task: panel of dx, step, group.
static void add_input_gradients(void *data, long task) {
  Backward *b = data;
  const Operands *o = &b->o;
  long groups = divide_up(o->B, ACCUMULATORS / b->x_width), group = task % groups;
  long step = b->first_step + task / groups % b->chunk, panel = task / groups / b->chunk;
  long first = part_start(o->B, group, groups), count = part_start(o->B, group + 1, groups) - first;
  long time = time_of(o, b->direction, step);
  Vector sums[ACCUMULATORS] = {0};
  multiply((int)b->x_width, (int)count, o->panels, ROW,
           b->packed_input + (b->direction * b->x_panels + panel) * o->panels * ROW * b->x_width * LANES,
           d_gates_of(b, b->direction, 0, step) + first * ROW, b->room * o->B * ROW, ROW, sums);
  for (long v = 0; v < b->x_width; v++) {
    long feature = (panel * b->x_width + v) * LANES, features = o->D - feature;
    for (long n = 0; n < count && features > 0; n++) {
      float *to = b->dx + ((first + n) * o->T + time) * o->D + feature;
      store(to, load(to, features) + sums[n * b->x_width + v], features);
    }
  }
}

static void run_backward(Backward *b, Team *team) {
  const Operands *o = &b->o;
  memset(b->dx, 0, o->B * o->T * o->D * sizeof(float));
  run_phase(team, pack_recurrent, b, o->P * b->h_panels);
  run_phase(team, pack_input, b, o->P * b->x_panels);
  for (b->first_step = (o->T - 1) / b->room * b->room; b->first_step >= 0; b->first_step -= b->room) {
    b->chunk = o->T - b->first_step < b->room ? o->T - b->first_step : b->room;
    long groups = divide_up(o->B, ACCUMULATORS / b->h_width);
    for (b->step = b->first_step + b->chunk - 1; b->step >= b->first_step; b->step--) {
      run_phase(team, step_backward, b, o->P * b->h_panels * groups);
    }
    run_phase(team, transpose_inputs, b, o->P * b->chunk);
    run_phase(team, add_kernel_gradients, b,
              o->P * o->panels * (divide_up(o->D, COLUMNS) + divide_up(o->H, COLUMNS)));
    for (b->direction = 0; b->direction < o->P; b->direction++) {  // they add to the same dx
      run_phase(team, add_input_gradients, b, b->x_panels * b->chunk * divide_up(o->B, ACCUMULATORS / b->x_width));
    }
  }
  b->step = -1;
  run_phase(team, step_backward, b, o->P * b->h_panels * divide_up(o->B, ACCUMULATORS / b->h_width));
}

#include "handlers.h"
