// What follows a batch norm or a convolution, and its derivative.
#pragma once

#include "vector.h"

enum class Activation : int64_t { kIdentity, kRelu, kSilu, kHardSwish };

template <Activation activation>
INLINE Vector activate(Vector z) {
  if constexpr (activation == Activation::kRelu) return maximum(z, Vector{});
  if constexpr (activation == Activation::kSilu) return z * sigmoid(z);
  if constexpr (activation == Activation::kHardSwish) {
    return z * minimum(maximum(z + 3.0f, Vector{}), fill(6.0f)) * (1.0f / 6);
  }
  return z;
}

// d activate(z) / dz.
template <Activation activation>
INLINE Vector slope(Vector z) {
  if constexpr (activation == Activation::kRelu) return z > 0.0f ? fill(1.0f) : Vector{};
  if constexpr (activation == Activation::kSilu) {
    const Vector s = sigmoid(z);
    return s * (1.0f + z * (1.0f - s));
  }
  if constexpr (activation == Activation::kHardSwish) {
    const Vector middle = (2.0f * z + 3.0f) * (1.0f / 6);
    return z <= -3.0f ? Vector{} : (z >= 3.0f ? fill(1.0f) : middle);
  }
  return fill(1.0f);
}

// The same, chosen when it runs.
INLINE Vector activate(Activation activation, Vector z) {
  switch (activation) {
    case Activation::kRelu: return activate<Activation::kRelu>(z);
    case Activation::kSilu: return activate<Activation::kSilu>(z);
    case Activation::kHardSwish: return activate<Activation::kHardSwish>(z);
    default: return z;
  }
}
