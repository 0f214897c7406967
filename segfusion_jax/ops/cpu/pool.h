// Largest value of 2x2 blocks, and its gradient.
#pragma once

#include "image.h"
#include "parallel.h"
#include "vector.h"

// Whether the first of two is taken: where they are equal too, and where it is NaN.
INLINE auto leads(Vector a, Vector b) { return (a >= b) | (a != a); }
INLINE Vector larger(Vector a, Vector b) { return leads(a, b) ? a : b; }

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
      for (int64_t at = 0; at < channels; at += LANES) {
        const int64_t n = channels - at, here = 2 * w * channels + at, next = here + channels;
        const Vector a = load(upper + here, n), b = load(lower + here, n), none = {};
        const Vector c = load(upper + next, n), d = load(lower + next, n), g = load(from + w * channels + at, n);
        const auto left = leads(larger(a, b), larger(c, d)), first = leads(a, b), second = leads(c, d);
        const Vector to_left = left ? g : none, to_right = left ? none : g;
        store(above + here, first ? to_left : none, n);
        store(below + here, first ? none : to_left, n);
        store(above + next, second ? to_right : none, n);
        store(below + next, second ? none : to_right, n);
      }
    }
  });
}
