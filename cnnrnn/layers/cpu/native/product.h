// The product of a few columns with one panel of a matrix, in registers.
#pragma once

#include "vectors.h"

// Adds to sums[column][v] the sum over r and k of
//   panel[r][k][v] * columns[r * repeat_stride + column * column_stride + k * depth_stride].
//
// A panel has `depth` rows of `width` vectors for each r, one after the other, so that it is read once from its start
// to its end. The sums stay in registers: width * num_columns is at most ACCUMULATORS. Both are constants where this is
// inlined.
INLINE void multiply_fixed(const int width, const int num_columns, long repeats, long depth,
                           const float *restrict panel, const float *restrict columns, long repeat_stride,
                           long column_stride, long depth_stride, Vector *sums) {
  Vector sum[ACCUMULATORS];
#pragma GCC unroll 32
  for (int i = 0; i < width * num_columns; i++) sum[i] = sums[i];
  for (long r = 0; r < repeats; r++, columns += repeat_stride) {
    const float *column_values = columns;
#pragma GCC unroll 1
    for (long k = 0; k < depth; k++, panel += width * LANES, column_values += depth_stride) {
      Vector vectors[4];
#pragma GCC unroll 4
      for (int v = 0; v < width; v++) vectors[v] = *(const Vector *)(panel + v * LANES);
#pragma GCC unroll 12
      for (int column = 0; column < num_columns; column++) {
        float value = column_values[column * column_stride];
#pragma GCC unroll 4
        for (int v = 0; v < width; v++) sum[column * width + v] += vectors[v] * value;
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < width * num_columns; i++) sums[i] = sum[i];
}

#define MULTIPLY(width, num_columns)                                                                              \
  case width * 16 + num_columns:                                                                                  \
    return multiply_fixed(width, num_columns, repeats, depth, panel, columns, repeat_stride, column_stride,       \
                          depth_stride, sums);

static __attribute__((noinline)) void multiply(int width, int num_columns, long repeats, long depth, const float *panel,
                                               const float *columns, long repeat_stride, long column_stride,
                                               long depth_stride, Vector *sums) {
  switch (width * 16 + num_columns) {
    MULTIPLY(4, 1) MULTIPLY(4, 2) MULTIPLY(4, 3)
    MULTIPLY(3, 1) MULTIPLY(3, 2) MULTIPLY(3, 3) MULTIPLY(3, 4)
    MULTIPLY(2, 1) MULTIPLY(2, 2) MULTIPLY(2, 3) MULTIPLY(2, 4) MULTIPLY(2, 5) MULTIPLY(2, 6)
#if defined(__AVX512F__) || !defined(__AVX2__)
    MULTIPLY(4, 4) MULTIPLY(4, 5) MULTIPLY(4, 6)
    MULTIPLY(3, 5) MULTIPLY(3, 6) MULTIPLY(3, 7) MULTIPLY(3, 8)
    MULTIPLY(2, 7) MULTIPLY(2, 8) MULTIPLY(2, 9) MULTIPLY(2, 10) MULTIPLY(2, 11) MULTIPLY(2, 12)
#endif
    default:
      __builtin_trap();
  }
}

INLINE long divide_up(long count, long size) { return (count + size - 1) / size; }

// Where part number `part` of `num_parts` parts, as equal as possible, of `count` things begins.
INLINE long part_start(long count, long part, long num_parts) { return count * part / num_parts; }

// `count` numbers cut into panels of 2 to 4 vectors, as equal as possible; the last vectors may be padding.
typedef struct {
  long vectors, count;
} Panels;

INLINE Panels cut_into_panels(long count) {
  long vectors = count > LANES ? divide_up(count, LANES) : 2;
  return (Panels){vectors, divide_up(vectors, 4)};
}

INLINE long first_vector(const Panels *panels, long panel) { return part_start(panels->vectors, panel, panels->count); }

INLINE int width_of(const Panels *panels, long panel) {
  return (int)(first_vector(panels, panel + 1) - first_vector(panels, panel));
}

// The number of columns that a product with any of the panels may have.
INLINE long max_columns(const Panels *panels) { return ACCUMULATORS / divide_up(panels->vectors, panels->count); }
