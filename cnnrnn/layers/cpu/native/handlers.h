// The handlers that XLA calls: they check the buffers, allocate, run, and return an error or NULL.
#pragma once

enum { NUM_OPERANDS = 9, NUM_FORWARD_RESULTS = 5, NUM_SAVED = 6, NUM_BACKWARD_RESULTS = 6 };

static XLA_FFI_Error *fail(XLA_FFI_CallFrame *frame, XLA_FFI_Error_Code code, const char *message) {
  XLA_FFI_Error_Create_Args args = {
      .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
  return frame->api->XLA_FFI_Error_Create(&args);
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
static int has_shape(const XLA_FFI_Buffer *buffer, XLA_FFI_DataType type, int rank, const long *shape) {
  if (buffer->dtype != type || buffer->rank != rank) return 0;
  for (int axis = 0; axis < rank; axis++) {
    if (shape[axis] >= 0 && buffer->dims[axis] != shape[axis]) return 0;
  }
  return 1;
}

#define SHAPE(...) (sizeof((long[]){__VA_ARGS__}) / sizeof(long)), (long[]){__VA_ARGS__}
#define IS_FLOAT(buffer, ...) has_shape(buffer, XLA_FFI_DataType_F32, SHAPE(__VA_ARGS__))
#define IS_INT(buffer, ...) has_shape(buffer, XLA_FFI_DataType_S32, SHAPE(__VA_ARGS__))

static XLA_FFI_Buffer *operand(XLA_FFI_CallFrame *frame, int i) { return frame->args.args[i]; }
static XLA_FFI_Buffer *result(XLA_FFI_CallFrame *frame, int i) { return frame->rets.rets[i]; }

// Reads the operands that both handlers have. Returns whether their shapes agree.
static int read_operands(XLA_FFI_CallFrame *frame, Operands *o) {
  XLA_FFI_Buffer *x = operand(frame, 0), *h0 = operand(frame, 1);
  if (!IS_FLOAT(x, -1, -1, -1) || !IS_FLOAT(h0, -1, -1, -1)) return 0;
  long B = x->dims[0], T = x->dims[1], D = x->dims[2], P = h0->dims[1], H = h0->dims[2];
  *o = (Operands){
      .B = B, .T = T, .D = D, .H = H, .P = P, .panels = divide_up(H, LANES),
      .x = x->data, .h0 = h0->data, .c0 = operand(frame, 2)->data, .mask = operand(frame, 3)->data,
      .input_kernel = operand(frame, 4)->data, .recurrent_kernel = operand(frame, 5)->data,
      .bias = operand(frame, 6)->data, .lengths = operand(frame, 7)->data, .reversed = operand(frame, 8)->data,
  };
  return B > 0 && T > 0 && D > 0 && H > 0 && P > 0 && h0->dims[0] == B && IS_FLOAT(operand(frame, 2), B, P, H) &&
         IS_FLOAT(operand(frame, 3), B, P, H) && IS_FLOAT(operand(frame, 4), P, D, GATES * H) &&
         IS_FLOAT(operand(frame, 5), P, H, GATES * H) && IS_FLOAT(operand(frame, 6), P, GATES * H) &&
         IS_INT(operand(frame, 7), B) && IS_INT(operand(frame, 8), P);
}

// Whether the address of a buffer is that of a vector.
static int is_aligned(const XLA_FFI_Buffer *buffer) { return (uintptr_t)buffer->data % sizeof(Vector) == 0; }

// Memory for `count` floats, aligned to a vector. It is freed with `free`.
static float *allocate(long count) { return aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64); }

XLA_FFI_Error *cnnrnn_lstm_forward(XLA_FFI_CallFrame *frame) {
  if (answer_metadata(frame)) return NULL;
  Forward f = {0};
  Operands *o = &f.o;
  if (frame->args.size != NUM_OPERANDS || frame->rets.size != NUM_FORWARD_RESULTS || !read_operands(frame, o) ||
      !IS_FLOAT(result(frame, 0), o->B, o->T, o->P * o->H) || !IS_FLOAT(result(frame, 1), o->B, o->P, o->H) ||
      !IS_FLOAT(result(frame, 2), o->B, o->P, o->H) || !IS_FLOAT(result(frame, 3), o->P, o->T, o->B, o->H) ||
      !IS_FLOAT(result(frame, 4), o->P, o->T, o->panels, o->B, ROW) || !is_aligned(result(frame, 4))) {
    return fail(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "native LSTM: the arrays have other types or shapes than lstm.c says");
  }
  f.outputs = result(frame, 0)->data, f.h = result(frame, 1)->data, f.c = result(frame, 2)->data;
  f.cells = result(frame, 3)->data, f.gates = result(frame, 4)->data;
  f.groups = divide_up(o->B, COLUMNS), f.room = divide_up(FORWARD_ROWS, o->B);
  if (f.room > o->T) f.room = o->T;
  Team *team = gather_team(frame);
  f.packed_input = allocate(o->P * o->panels * o->D * ROW);
  f.packed_recurrent = allocate(o->P * o->panels * o->H * ROW);
  f.projected = allocate(o->P * o->panels * f.room * o->B * ROW);
  f.entering[0] = allocate(o->P * o->B * o->H), f.entering[1] = allocate(o->P * o->B * o->H);
  int has_memory = team && f.packed_input && f.packed_recurrent && f.projected && f.entering[0] && f.entering[1];
  if (has_memory) run_forward(&f, team);
  if (team) dismiss_team(team);
  free(f.packed_input), free(f.packed_recurrent), free(f.projected), free(f.entering[0]), free(f.entering[1]);
  return has_memory ? NULL : fail(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "native LSTM: out of memory");
}

XLA_FFI_Error *cnnrnn_lstm_backward(XLA_FFI_CallFrame *frame) {
  if (answer_metadata(frame)) return NULL;
  Backward b = {0};
  Operands *o = &b.o;
  XLA_FFI_Buffer **saved = (XLA_FFI_Buffer **)frame->args.args + NUM_OPERANDS;
  if (frame->args.size != NUM_OPERANDS + NUM_SAVED || frame->rets.size != NUM_BACKWARD_RESULTS ||
      !read_operands(frame, o) || !IS_FLOAT(saved[0], o->B, o->T, o->P * o->H) ||
      !IS_FLOAT(saved[1], o->P, o->T, o->B, o->H) || !IS_FLOAT(saved[2], o->P, o->T, o->panels, o->B, ROW) ||
      !is_aligned(saved[2]) ||
      !IS_FLOAT(saved[3], o->B, o->T, o->P * o->H) || !IS_FLOAT(saved[4], o->B, o->P, o->H) ||
      !IS_FLOAT(saved[5], o->B, o->P, o->H) || !IS_FLOAT(result(frame, 0), o->B, o->T, o->D) ||
      !IS_FLOAT(result(frame, 1), o->B, o->P, o->H) || !IS_FLOAT(result(frame, 2), o->B, o->P, o->H) ||
      !IS_FLOAT(result(frame, 3), o->P, o->D, GATES * o->H) ||
      !IS_FLOAT(result(frame, 4), o->P, o->H, GATES * o->H) || !IS_FLOAT(result(frame, 5), o->P, GATES * o->H)) {
    return fail(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "native LSTM: the arrays have other types or shapes than lstm.c says");
  }
  b.outputs = saved[0]->data, b.cells = saved[1]->data, b.gates = saved[2]->data, b.d_outputs = saved[3]->data;
  b.dx = result(frame, 0)->data, b.dh = result(frame, 1)->data, b.dc = result(frame, 2)->data;
  b.d_input_kernel = result(frame, 3)->data, b.d_recurrent_kernel = result(frame, 4)->data;
  b.d_bias = result(frame, 5)->data;
  size_t carry_size = o->B * o->P * o->H * sizeof(float);
  memcpy(b.dh, saved[4]->data, carry_size);
  memcpy(b.dc, saved[5]->data, carry_size);
  b.h_width = best_width(o->H), b.x_width = best_width(o->D);
  b.h_panels = divide_up(o->H, b.h_width * LANES), b.x_panels = divide_up(o->D, b.x_width * LANES);
  b.room = divide_up(BACKWARD_ROWS, o->B);
  if (b.room > o->T) b.room = o->T;
  long rows = b.room * o->B;
  Team *team = gather_team(frame);
  b.packed_recurrent = allocate(o->P * b.h_panels * o->panels * ROW * b.h_width * LANES);
  b.packed_input = allocate(o->P * b.x_panels * o->panels * ROW * b.x_width * LANES);
  b.d_gates[0] = allocate(o->P * o->panels * rows * ROW), b.d_gates[1] = allocate(o->P * o->panels * rows * ROW);
  b.x_columns = allocate(o->P * o->D * rows), b.h_columns = allocate(o->P * o->H * rows);
  int has_memory = team && b.packed_recurrent && b.packed_input && b.d_gates[0] && b.d_gates[1] && b.x_columns &&
                   b.h_columns;
  if (has_memory) run_backward(&b, team);
  if (team) dismiss_team(team);
  free(b.packed_recurrent), free(b.packed_input), free(b.d_gates[0]), free(b.d_gates[1]);
  free(b.x_columns), free(b.h_columns);
  return has_memory ? NULL : fail(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "native LSTM: out of memory");
}

int cnnrnn_num_lanes(void) { return LANES; }
