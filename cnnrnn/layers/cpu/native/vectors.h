// Vectors of float32 as wide as the CPU's registers, in the notation that GCC and Clang share.
#pragma once

#if defined(__AVX512F__)
enum { LANES = 16, ACCUMULATORS = 24 };  // of 32 registers
#elif defined(__AVX2__)
enum { LANES = 8, ACCUMULATORS = 12 };  // of 16
#else
enum { LANES = 4, ACCUMULATORS = 24 };  // NEON has 32; what else there is may spill
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int IntVector __attribute__((vector_size(4 * LANES)));
typedef float UnalignedVector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

// The first `count` floats at an address, if there are so many, and zeros after them.
INLINE Vector load(const float *from, long count) {
  if (__builtin_expect(count >= LANES, 1)) return *(const UnalignedVector *)from;
  Vector vector = {0};
  for (long i = 0; i < count; i++) vector[i] = from[i];
  return vector;
}

// Writes the first `count` floats of a vector, or all if there are no more.
INLINE void store(float *to, Vector vector, long count) {
  if (__builtin_expect(count >= LANES, 1)) {
    *(UnalignedVector *)to = vector;
  } else {
    for (long i = 0; i < count; i++) to[i] = vector[i];
  }
}

// The first `count` numbers of a vector, and zeros after them.
INLINE Vector keep(Vector vector, long count) {
  for (long i = count < LANES ? count : LANES; i < LANES; i++) vector[i] = 0;
  return vector;
}

INLINE Vector broadcast(float value) { return (Vector){0} + value; }

INLINE Vector choose(IntVector mask, Vector yes, Vector no) {
  return (Vector)((mask & (IntVector)yes) | (~mask & (IntVector)no));
}

typedef struct {
  Vector power;  // 2^n
  Vector rest;   // exp(r) - 1
} Exponential;

// exp(x) = 2^n exp(r) with r = x - n ln 2, |r| <= 0.35. The error of the Taylor series of exp(r) is 5e-9.
INLINE Exponential split_exponential(Vector x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: to add it rounds to an integer, which the low bits then hold
  x = choose(x < -87.0f, broadcast(-87.0f), x);
  x = choose(x > 88.0f, broadcast(88.0f), x);
  Vector shifted = x * 1.44269504f + magic;
  IntVector n = (IntVector)shifted - (IntVector)broadcast(magic);
  Vector rounded = shifted - magic;
  Vector r = x - rounded * 0.693359375f;  // ln 2 in two parts, the first with few bits, so that the product is exact
  r = r + rounded * 2.12194440e-4f;
  Vector series = broadcast(1.0f / 5040);
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  return (Exponential){(Vector)((n + 127) << 23), series * r};
}

INLINE Vector sigmoid(Vector x) {
  Exponential e = split_exponential(-x);
  return choose(x == x, 1.0f / (1.0f + e.power + e.power * e.rest), x);  // NaN stays NaN
}

// (exp(2 x) - 1) / (exp(2 x) + 1), where exp(2 x) - 1 is exact to the last bits near 0 too.
INLINE Vector hyperbolic_tangent(Vector x) {
  Exponential e = split_exponential(2.0f * x);
  Vector minus_1 = e.power * e.rest + (e.power - 1.0f);
  return choose(x == x, minus_1 / (minus_1 + 2.0f), x);
}
