// Vectors of 16 floats, which the compiler splits where the machine has narrower ones, and what runs over arrays of
// them.
#pragma once

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

constexpr int64_t LANES = 16;
inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t IntVector __attribute__((vector_size(64), aligned(4), may_alias));

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector values) { *reinterpret_cast<Vector*>(to) = values; }
INLINE Vector fill(float value) { return value - Vector{}; }

// The first `count` lanes: all of them where it is LANES or more, none where it is 0 or less.
INLINE Vector load(const float* from, int64_t count) {
  if (count >= LANES) return load(from);
  Vector values = {};
  if (count == LANES / 2) {
    std::memcpy(&values, from, sizeof(Vector) / 2);
    return values;
  }
  for (int64_t lane = 0; lane < count; ++lane) values[lane] = from[lane];
  return values;
}
INLINE void store(float* to, Vector values, int64_t count) {
  if (count >= LANES) return store(to, values);
  if (count == LANES / 2) {
    std::memcpy(to, &values, sizeof(Vector) / 2);
    return;
  }
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = values[lane];
}

// Where a is NaN, so are these: a network that has diverged must not look well.
INLINE Vector maximum(Vector a, Vector b) { return b > a ? b : a; }
INLINE Vector minimum(Vector a, Vector b) { return b < a ? b : a; }

// e^x to 2 units in the last place: 2^n by the exponent's bits, e^r of the rest, |r| <= ln(2)/2, by its Taylor series.
INLINE Vector exponential(Vector x) {
  x = minimum(maximum(x, fill(-87.0f)), fill(88.0f));
  const Vector rounder = fill(12582912.0f);  // adding 1.5 x 2^23 rounds to an integer
  const Vector n = (x * 1.44269504f + rounder) - rounder;
  const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector series = fill(1.0f / 5040);
  for (float coefficient : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    series = series * r + coefficient;
  }
  const IntVector exponent = (__builtin_convertvector(n, IntVector) + 127) << 23;
  return series * reinterpret_cast<const Vector&>(exponent);
}

INLINE Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }

// Values of one a channel, repeated to a multiple of LANES and of the channels: what a flat array of pixels meets.
class Periodic {
 public:
  explicit Periodic(int64_t channels) : channels_(channels), values_(std::lcm(channels, LANES)) {}
  Periodic(const float* values, int64_t channels) : Periodic(channels) { repeat(values); }
  const float* repeat(const float* values) {
    for (int64_t i = 0; i < period(); ++i) values_[i] = values[i % channels_];
    return data();
  }
  int64_t period() const { return values_.size(); }
  const float* data() const { return values_.data(); }

 private:
  const int64_t channels_;
  std::vector<float> values_;
};
