// What becomes of the sums of a convolution before they are stored.
#pragma once

#include "activation.h"
#include "parallel.h"

// Sums of a batch norm's input and of its square, which each worker adds up for itself.
class Moments {
 public:
  Moments(int64_t workers, int64_t channels)
      : channels_(channels), padded_(round_up(channels, 2 * LANES)), sums_(2 * workers * padded_),
        totals_(2 * workers * padded_) {}
  float* sum(int64_t worker) { return &sums_[2 * worker * padded_]; }
  float* square(int64_t worker) { return sum(worker) + padded_; }
  // After each task: single precision adds up well only so many values.
  void flush(int64_t worker) {
    for (int64_t i = 2 * worker * padded_; i < 2 * (worker + 1) * padded_; ++i) {
      totals_[i] += sums_[i];
      sums_[i] = 0;
    }
  }
  void finish(float* sum, float* square) const {
    for (int64_t c = 0; c < channels_; ++c) {
      double a = 0, b = 0;
      for (size_t i = c; i < totals_.size(); i += 2 * padded_) {
        a += totals_[i];
        b += totals_[i + padded_];
      }
      sum[c] = a;
      square[c] = b;
    }
  }

 private:
  const int64_t channels_, padded_;
  std::vector<float> sums_;
  std::vector<double> totals_;
};

// Adds a bias, and either adds up moments (in training) or applies an activation. A worker's share of Moments.
struct Epilogue {
  const float* bias;  // null for none
  Activation activation;
  float *sum, *square;  // null for no moments

  Epilogue at(int64_t channel) const {
    const auto from = [=](auto* values) { return values ? values + channel : nullptr; };
    return {from(bias), activation, from(sum), from(square)};
  }
  Epilogue with(Moments& moments, int64_t worker) const {
    return {bias, activation, moments.sum(worker), moments.square(worker)};
  }
  // Stores `pixels` vectors of the same channels, `stride` apart.
  template <int pixels>
  INLINE void finish(Vector (&values)[pixels], float* to, int64_t stride, int64_t count) const {
    if (bias) {
      const Vector start = load(bias, count);
      for (int p = 0; p < pixels; ++p) values[p] += start;
    }
    if (sum) {
      Vector total = values[0], squares = values[0] * values[0];
      for (int p = 1; p < pixels; ++p) {
        total += values[p];
        squares += values[p] * values[p];
      }
      store(sum, load(sum) + total);
      store(square, load(square) + squares);
    }
    if (activation != Activation::kIdentity) {
      for (int p = 0; p < pixels; ++p) values[p] = activate(activation, values[p]);
    }
    for (int p = 0; p < pixels; ++p) store(to + p * stride, values[p], count);
  }
};
