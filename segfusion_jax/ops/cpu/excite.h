// Each image of [images, pixels, channels] on its own: sums over its pixels, and a scale and shift a channel.
#pragma once

#include "batch_norm.h"

// Sums of x, or of x * y where y is not null: [images, channels].
inline void image_sums(ffi::ThreadPool& pool, const float* x, const float* y, int64_t images, int64_t size,
                       int64_t channels, float* sums) {
  const int64_t period = std::lcm(channels, LANES), workers = num_workers(pool, images);
  std::vector<float> totals(workers * period);
  parallel_for(pool, images, [&](int64_t image, int64_t worker) {
    float* total = &totals[worker * period];
    std::fill(total, total + period, 0.0f);
    for_vectors(image * size, (image + 1) * size, period, [=](int64_t at, int64_t count, int64_t lane) INLINE_LAMBDA {
      const Vector value = load(x + at, count);
      store(total + lane, load(total + lane) + (y ? value * load(y + at, count) : value));
    });
    float* to = sums + image * channels;
    std::fill(to, to + channels, 0.0f);
    for (int64_t i = 0; i < period; ++i) to[i % channels] += total[i];
  });
}

// y = x * scale + shift, both [images, channels].
inline void image_scale(ffi::ThreadPool& pool, const float* x, const float* scale, const float* shift, int64_t images,
                        int64_t size, int64_t channels, float* y) {
  const int64_t workers = num_workers(pool, images);
  std::vector<Periodic> scales(workers, Periodic(channels)), shifts(workers, Periodic(channels));
  parallel_for(pool, images, [&](int64_t image, int64_t worker) {
    const float* a = scales[worker].repeat(scale + image * channels);
    const float* b = shifts[worker].repeat(shift + image * channels);
    for_vectors(image * size, (image + 1) * size, scales[worker].period(),
                [=](int64_t at, int64_t count, int64_t lane) INLINE_LAMBDA {
                  store(y + at, load(x + at, count) * load(a + lane) + load(b + lane), count);
                });
  });
}
