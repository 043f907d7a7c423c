// The handlers that XLA calls: they check the buffers, allocate, run, and return an error or NULL.
//
// Forward: x, h0, mask, input_kernel, recurrent_kernel, bias, lengths, reversed; for the LSTM also c0. Returns outputs,
// gates, h; for the LSTM also c, cells. Backward takes the operands of forward, then outputs, gates, d_outputs, dh; for
// the LSTM also cells, dc. Returns dx, d_input_kernel, d_recurrent_kernel, d_bias, dh0; for the LSTM also dc0.
#include "gradients.h"
#include "gru.h"
#include "lstm.h"

enum { NUM_OPERANDS = 8, NUM_RESULTS = 3, NUM_SAVED = 4, NUM_GRADIENTS = 5 };  // of a cell whose carry is h alone

static XLA_FFI_Error *fail(XLA_FFI_CallFrame *frame, XLA_FFI_Error_Code code, const char *message) {
  XLA_FFI_Error_Create_Args args = {
      .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
  return frame->api->XLA_FFI_Error_Create(&args);
}

static XLA_FFI_Error *fail_shapes(XLA_FFI_CallFrame *frame) {
  return fail(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT,
              "native loop: the arrays have other types, shapes or alignment than recurrence.h says");
}

// Answers XLA's question for the version of its interface. Returns whether this was the question.
static int answer_metadata(XLA_FFI_CallFrame *frame) {
  XLA_FFI_Extension_Base *extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)extension)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  return 1;
}

// Whether a buffer has an element type and a shape; a dimension of -1 may be any.
static int has_shape(const XLA_FFI_Buffer *buffer, XLA_FFI_DataType type, int num_axes, const long *shape) {
  if (buffer->dtype != type || buffer->rank != num_axes) return 0;
  for (int axis = 0; axis < num_axes; axis++) {
    if (shape[axis] >= 0 && buffer->dims[axis] != shape[axis]) return 0;
  }
  return 1;
}

#define SHAPE(...) (sizeof((long[]){__VA_ARGS__}) / sizeof(long)), (long[]){__VA_ARGS__}
#define IS_FLOAT(buffer, ...) has_shape(buffer, XLA_FFI_DataType_F32, SHAPE(__VA_ARGS__))
#define IS_INT(buffer, ...) has_shape(buffer, XLA_FFI_DataType_S32, SHAPE(__VA_ARGS__))

static XLA_FFI_Buffer *operand(XLA_FFI_CallFrame *frame, int i) { return frame->args.args[i]; }
static XLA_FFI_Buffer *result(XLA_FFI_CallFrame *frame, int i) { return frame->rets.rets[i]; }

// Whether the address of a buffer is that of a vector.
static int is_aligned(const XLA_FFI_Buffer *buffer) { return (uintptr_t)buffer->data % sizeof(Vector) == 0; }

// Reads the operands that both handlers have. Returns whether their number and shapes agree.
static int read_operands(XLA_FFI_CallFrame *frame, const Cell *cell, Operands *o) {
  int has_c = cell->num_carries == 2;
  if (frame->args.size < NUM_OPERANDS + has_c) return 0;
  XLA_FFI_Buffer *x = operand(frame, 0), *h0 = operand(frame, 1);
  if (!IS_FLOAT(x, -1, -1, -1) || !IS_FLOAT(h0, -1, -1, -1)) return 0;
  long B = x->dims[0], T = x->dims[1], D = x->dims[2], P = h0->dims[1], H = h0->dims[2], G = cell->num_gates;
  *o = (Operands){
      .B = B, .T = T, .D = D, .H = H, .P = P, .slices = divide_up(H, LANES),
      .x = x->data, .h0 = h0->data, .mask = operand(frame, 2)->data, .input_kernel = operand(frame, 3)->data,
      .recurrent_kernel = operand(frame, 4)->data, .bias = operand(frame, 5)->data,
      .lengths = operand(frame, 6)->data, .reversed = operand(frame, 7)->data,
      .c0 = has_c ? operand(frame, 8)->data : NULL,
  };
  return B > 0 && T > 0 && D > 0 && H > 0 && P > 0 && P <= MAX_DIRECTIONS && h0->dims[0] == B &&
         IS_FLOAT(operand(frame, 2), B, P, H) &&
         IS_FLOAT(operand(frame, 3), P, D, G * H) && IS_FLOAT(operand(frame, 4), P, H, G * H) &&
         IS_FLOAT(operand(frame, 5), P, G * H) && IS_INT(operand(frame, 6), B) && IS_INT(operand(frame, 7), P) &&
         (!has_c || IS_FLOAT(operand(frame, 8), B, P, H));
}

static int is_gates(const XLA_FFI_Buffer *buffer, const Cell *cell, const Operands *o) {
  return IS_FLOAT(buffer, o->P, o->T, o->slices, o->B, cell->num_gates, LANES) && is_aligned(buffer);
}

// One allocation for all arrays of a call: its size is found by a first pass without memory.
typedef struct {
  char *memory;
  size_t size;
} Arena;

// Memory for `count` numbers of `bytes` bytes, aligned to a vector.
static void *reserve(Arena *arena, long count, size_t bytes) {
  void *start = arena->memory ? arena->memory + arena->size : NULL;
  arena->size += (count * bytes + 63) / 64 * 64;
  return start;
}

static float *reserve_floats(Arena *arena, long count) { return reserve(arena, count, sizeof(float)); }

static void place_order(Operands *o, Arena *arena) {
  o->sequences = reserve(arena, o->B, sizeof(long));
  o->rows = reserve(arena, o->P * (o->T + 1), sizeof(long));
}

// ---- forward

static int read_forward(XLA_FFI_CallFrame *frame, Forward *f) {
  const Cell *cell = f->cell;
  Operands *o = &f->o;
  int has_c = cell->num_carries == 2;
  if (!read_operands(frame, cell, o) || frame->args.size != NUM_OPERANDS + has_c ||
      frame->rets.size != NUM_RESULTS + 2 * has_c || !IS_FLOAT(result(frame, 0), o->B, o->T, o->P * o->H) ||
      !is_gates(result(frame, 1), cell, o) || !IS_FLOAT(result(frame, 2), o->B, o->P, o->H) ||
      (has_c &&
       (!IS_FLOAT(result(frame, 3), o->B, o->P, o->H) || !IS_FLOAT(result(frame, 4), o->P, o->T, o->B, o->H)))) {
    return 0;
  }
  f->outputs = result(frame, 0)->data, f->gates = result(frame, 1)->data, f->h = result(frame, 2)->data;
  f->c = has_c ? result(frame, 3)->data : NULL, f->cells = has_c ? result(frame, 4)->data : NULL;
  f->max_chunk = divide_up(o->T, divide_up(o->T * o->B, FORWARD_ROWS)), f->max_rows = f->max_chunk * o->B;
  return 1;
}

static void place_forward(Forward *f, Arena *arena) {
  Operands *o = &f->o;
  place_order(o, arena);
  f->inputs = reserve_floats(arena, o->P * f->max_rows * o->D);
  for (int number = 0; number < f->cell->num_blocks; number++) {
    const Block *block = &f->cell->blocks[number];
    long columns = o->P * panels_of(o, block) * block->width * LANES;
    f->packed_input[number] = reserve_floats(arena, columns * o->D);
    f->packed_recurrent[number] = reserve_floats(arena, columns * o->H);
    f->projected[number] = reserve_floats(arena, columns * f->max_rows);
  }
  for (int i = 0; i < 2; i++) f->recurrent_inputs[i] = reserve_floats(arena, o->P * o->B * o->H);
}

static XLA_FFI_Error *forward(XLA_FFI_CallFrame *frame, const Cell *cell) {
  if (answer_metadata(frame)) return NULL;
  Forward f = {.cell = cell};
  if (!read_forward(frame, &f)) return fail_shapes(frame);
  Arena arena = {0};
  place_forward(&f, &arena);
  arena.memory = aligned_alloc(64, arena.size);
  Team *team = arena.memory ? create_team(frame) : NULL;
  if (team) {
    arena.size = 0;
    place_forward(&f, &arena);
    run_forward(&f, team);
    release_team(team);
  }
  free(arena.memory);
  return team ? NULL : fail(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "native loop: out of memory");
}

// ---- backward

static int read_backward(XLA_FFI_CallFrame *frame, Backward *b) {
  const Cell *cell = b->cell;
  Operands *o = &b->o;
  int has_c = cell->num_carries == 2;
  if (!read_operands(frame, cell, o) || frame->args.size != NUM_OPERANDS + NUM_SAVED + 3 * has_c ||
      frame->rets.size != NUM_GRADIENTS + has_c) {
    return 0;
  }
  XLA_FFI_Buffer **saved = (XLA_FFI_Buffer **)frame->args.args + NUM_OPERANDS + has_c;
  long columns = cell->num_gates * o->H;
  if (!IS_FLOAT(saved[0], o->B, o->T, o->P * o->H) || !is_gates(saved[1], cell, o) ||
      !IS_FLOAT(saved[2], o->B, o->T, o->P * o->H) || !IS_FLOAT(saved[3], o->B, o->P, o->H) ||
      (has_c && (!IS_FLOAT(saved[4], o->P, o->T, o->B, o->H) || !IS_FLOAT(saved[5], o->B, o->P, o->H))) ||
      !IS_FLOAT(result(frame, 0), o->B, o->T, o->D) || !IS_FLOAT(result(frame, 1), o->P, o->D, columns) ||
      !IS_FLOAT(result(frame, 2), o->P, o->H, columns) ||
      !IS_FLOAT(result(frame, 3), o->P, columns) || !IS_FLOAT(result(frame, 4), o->B, o->P, o->H) ||
      (has_c && !IS_FLOAT(result(frame, 5), o->B, o->P, o->H))) {
    return 0;
  }
  b->outputs = saved[0]->data, b->gates = saved[1]->data, b->d_outputs = saved[2]->data;
  b->dx = result(frame, 0)->data, b->d_input_kernel = result(frame, 1)->data;
  b->d_recurrent_kernel = result(frame, 2)->data, b->d_bias = result(frame, 3)->data, b->dh = result(frame, 4)->data;
  memcpy(b->dh, saved[3]->data, o->B * o->P * o->H * sizeof(float));
  if (has_c) {
    b->cells = saved[4]->data, b->dc = result(frame, 5)->data;
    memcpy(b->dc, saved[5]->data, o->B * o->P * o->H * sizeof(float));
  }
  b->dh_panels = cut_into_panels(o->H), b->dx_panels = cut_into_panels(o->D);
  b->max_chunk = divide_up(o->T, divide_up(o->T * o->B, BACKWARD_ROWS)), b->max_rows = b->max_chunk * o->B;
  return 1;
}

static void place_backward(Backward *b, Arena *arena) {
  Operands *o = &b->o;
  place_order(o, arena);
  for (int number = 0; number < b->cell->num_blocks; number++) {
    long columns = o->P * columns_of(b, number);
    b->packed_recurrent[number] = reserve_floats(arena, columns * b->dh_panels.vectors * LANES);
    b->packed_input[number] = reserve_floats(arena, columns * b->dx_panels.vectors * LANES);
    b->h_factors[number] = reserve_floats(arena, o->P * o->H * b->max_rows);
    for (int i = 0; i < 2; i++) b->d_gates[number][i] = reserve_floats(arena, columns * b->max_rows);
  }
  b->x_factors = reserve_floats(arena, o->P * o->D * b->max_rows);
  b->factor_row = reserve_floats(arena, o->P * b->max_chunk * o->slices * LANES);
}

static XLA_FFI_Error *backward(XLA_FFI_CallFrame *frame, const Cell *cell) {
  if (answer_metadata(frame)) return NULL;
  Backward b = {.cell = cell};
  if (!read_backward(frame, &b)) return fail_shapes(frame);
  Arena arena = {0};
  place_backward(&b, &arena);
  arena.memory = aligned_alloc(64, arena.size);
  Team *team = arena.memory ? create_team(frame) : NULL;
  if (team) {
    arena.size = 0;
    place_backward(&b, &arena);
    run_backward(&b, team);
    release_team(team);
  }
  free(arena.memory);
  return team ? NULL : fail(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "native loop: out of memory");
}

XLA_FFI_Error *cnnrnn_lstm_forward(XLA_FFI_CallFrame *frame) { return forward(frame, &LSTM); }
XLA_FFI_Error *cnnrnn_lstm_backward(XLA_FFI_CallFrame *frame) { return backward(frame, &LSTM); }
XLA_FFI_Error *cnnrnn_gru_forward(XLA_FFI_CallFrame *frame) { return forward(frame, &GRU); }
XLA_FFI_Error *cnnrnn_gru_backward(XLA_FFI_CallFrame *frame) { return backward(frame, &GRU); }

int cnnrnn_num_lanes(void) { return LANES; }
