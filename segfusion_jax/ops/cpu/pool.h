// Largest value of 2x2 blocks, and its gradient.
#pragma once

#include "depthwise.h"

// Whether the second is larger: of equal values the first is taken.
INLINE Vector larger(Vector a, Vector b) { return a >= b ? a : b; }

// `in` has even sides.
inline void max_pool(ffi::ThreadPool& pool, const float* x, Image in, float* y) {
  const int64_t channels = in.channels, width = in.width / 2;
  parallel_for(pool, in.count * in.height / 2, [&](int64_t task, int64_t) {
    const float *upper = x + 2 * task * in.row(), *lower = upper + in.row();
    float* to = y + task * width * channels;
    for (int64_t w = 0; w < width; ++w, to += channels, upper += 2 * channels, lower += 2 * channels) {
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t n = channels - c;
        const Vector left = larger(load(upper + c, n), load(lower + c, n));
        const Vector right = larger(load(upper + channels + c, n), load(lower + channels + c, n));
        store(to + c, larger(left, right), n);
      }
    }
  });
}

inline void max_pool_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, Image in, float* dx) {
  const int64_t channels = in.channels, width = in.width / 2;
  parallel_for(pool, in.count * in.height / 2, [&](int64_t task, int64_t) {
    const float *upper = x + 2 * task * in.row(), *lower = upper + in.row();
    const float* from = dy + task * width * channels;
    float *above = dx + 2 * task * in.row(), *below = above + in.row();
    for (int64_t w = 0; w < width; ++w) {
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t n = channels - c, here = 2 * w * channels + c, next = here + channels;
        const Vector a = load(upper + here, n), b = load(upper + next, n), g = load(from + w * channels + c, n);
        const Vector left = larger(a, load(lower + here, n)), right = larger(b, load(lower + next, n));
        const Vector none = {}, to_left = left >= right ? g : none, to_right = left >= right ? none : g;
        store(above + here, a == left ? to_left : none, n);
        store(below + here, a == left ? none : to_left, n);
        store(above + next, b == right ? to_right : none, n);
        store(below + next, b == right ? none : to_right, n);
      }
    }
  });
}
