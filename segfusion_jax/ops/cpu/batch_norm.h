// Batch norm with the activation after it: x -> act(x * scale + shift), its statistics and its gradients.
#pragma once

#include "activation.h"
#include "parallel.h"

// Pixels that one task takes: about 64 KiB, and a whole number of periods.
inline int64_t chunk_size(int64_t period) { return std::max<int64_t>(1, 16384 / period) * period; }

// Calls body(at, count, lane) for the vectors of each chunk: `at` in the array, `lane` in a period.
template <typename Body>
INLINE void for_vectors(int64_t begin, int64_t end, int64_t period, const Body& body) {
  int64_t at = begin;
  for (; at + period <= end; at += period) {
    for (int64_t lane = 0; lane < period; lane += LANES) body(at + lane, LANES, lane);
  }
  for (int64_t lane = 0; at < end; at += LANES, lane += LANES) body(at, end - at, lane);
}

// Two sums a channel of an array of `size`: body(at, count, lane, first, second) adds a vector's share to both.
template <typename Body>
void channel_sums(ffi::ThreadPool& pool, int64_t size, int64_t channels, float* first, float* second,
                  const Body& body) {
  const int64_t period = std::lcm(channels, LANES), chunk = chunk_size(period);
  const int64_t tasks = (size + chunk - 1) / chunk, workers = num_workers(pool, tasks);
  std::vector<double> totals(workers * 2 * channels);
  std::vector<float> sums(workers * 2 * period);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    float* sum1 = &sums[worker * 2 * period];
    float* sum2 = sum1 + period;
    std::fill(sum1, sum1 + 2 * period, 0.0f);
    const int64_t begin = task * chunk, end = std::min(size, begin + chunk);
    for_vectors(begin, end, period, [&](int64_t at, int64_t count, int64_t lane) INLINE_LAMBDA {
      Vector a = load(sum1 + lane), b = load(sum2 + lane);
      body(at, count, lane, a, b);
      store(sum1 + lane, a);
      store(sum2 + lane, b);
    });
    double* total = &totals[worker * 2 * channels];
    for (int64_t i = 0; i < period; ++i) {
      total[i % channels] += sum1[i];
      total[channels + i % channels] += sum2[i];
    }
  }, true);
  for (int64_t c = 0; c < channels; ++c) {
    double a = 0, b = 0;
    for (int64_t worker = 0; worker < workers; ++worker) {
      a += totals[worker * 2 * channels + c];
      b += totals[(worker * 2 + 1) * channels + c];
    }
    first[c] = a;
    second[c] = b;
  }
}

// Sums of x and of x^2.
inline void moments(ffi::ThreadPool& pool, const float* x, int64_t size, int64_t channels, float* sum, float* square) {
  channel_sums(pool, size, channels, sum, square,
               [=](int64_t at, int64_t count, int64_t, Vector& a, Vector& b) INLINE_LAMBDA {
                 const Vector value = load(x + at, count);
                 a += value;
                 b += value * value;
               });
}

template <Activation activation>
void norm_act(ffi::ThreadPool& pool, const float* x, const float* scale, const float* shift, int64_t size,
              int64_t channels, float* y) {
  const Periodic scales(scale, channels), shifts(shift, channels);
  const int64_t period = scales.period(), chunk = chunk_size(period);
  parallel_for(pool, (size + chunk - 1) / chunk, [&](int64_t task, int64_t) {
    const float *a = scales.data(), *b = shifts.data();
    for_vectors(task * chunk, std::min(size, (task + 1) * chunk), period,
                [&](int64_t at, int64_t count, int64_t lane) INLINE_LAMBDA {
                  store(y + at, activate<activation>(load(x + at, count) * load(a + lane) + load(b + lane)), count);
                });
  });
}

// Sums of g and of g x, where g = dy * slope(x * scale + shift).
template <Activation activation>
void norm_act_sums(ffi::ThreadPool& pool, const float* x, const float* dy, const float* scale, const float* shift,
                   int64_t size, int64_t channels, float* sum, float* product) {
  const Periodic scales(scale, channels), shifts(shift, channels);
  const float *a = scales.data(), *b = shifts.data();
  channel_sums(pool, size, channels, sum, product,
               [=](int64_t at, int64_t count, int64_t lane, Vector& first, Vector& second) INLINE_LAMBDA {
                 const Vector value = load(x + at, count);
                 const Vector g = load(dy + at, count) * slope<activation>(value * load(a + lane) + load(b + lane));
                 first += g;
                 second += g * value;
               });
}

// dx = scale * g + linear * x + constant.
template <Activation activation>
void norm_act_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, const float* scale, const float* shift,
                       const float* linear, const float* constant, int64_t size, int64_t channels, float* dx) {
  const Periodic scales(scale, channels), shifts(shift, channels);
  const Periodic linears(linear, channels), constants(constant, channels);
  const int64_t period = scales.period(), chunk = chunk_size(period);
  parallel_for(pool, (size + chunk - 1) / chunk, [&](int64_t task, int64_t) {
    const float *a = scales.data(), *b = shifts.data(), *c = linears.data(), *d = constants.data();
    for_vectors(task * chunk, std::min(size, (task + 1) * chunk), period,
                [&](int64_t at, int64_t count, int64_t lane) INLINE_LAMBDA {
                  const Vector value = load(x + at, count), scaling = load(a + lane);
                  const Vector g = load(dy + at, count) * slope<activation>(value * scaling + load(b + lane));
                  store(dx + at, g * scaling + value * load(c + lane) + load(d + lane), count);
                });
  });
}
