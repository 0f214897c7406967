// Two arrays side by side along their channels, values dropped at random, and the way back.
#pragma once

#include "parallel.h"
#include "vector.h"

typedef uint32_t Bits __attribute__((vector_size(64), aligned(4), may_alias));

// Which of the values at `index` and after it are kept: see ops/dropout.py for the hash.
INLINE auto kept(uint32_t index, uint32_t key0, uint32_t key1, uint32_t threshold) {
  Bits x = Bits{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + index;
  for (uint32_t key : {key0, key1}) {
    x ^= key;
    x = (x ^ x >> 16) * 0x21f0aaadu;
    x = (x ^ x >> 15) * 0xd35a2d97u;
    x ^= x >> 15;
  }
  return x >= threshold;
}

struct Dropout {
  uint32_t key0, key1, threshold;
  float scale;
};

// y[pixel] = [a[pixel], b[pixel]], dropped and scaled; backward: a and b from y.
template <bool backward, typename A, typename Y>
void concatenate_dropout(ffi::ThreadPool& pool, A* a, A* b, int64_t pixels, int64_t first, int64_t second,
                         Dropout dropout, Y* y) {
  const int64_t channels = first + second, chunk = std::max<int64_t>(1, 16384 / channels);
  parallel_for(pool, (pixels + chunk - 1) / chunk, [&](int64_t task, int64_t) {
    for (int64_t p = task * chunk; p < std::min(pixels, (task + 1) * chunk); ++p) {
      const auto side = [&](A* part, Y* whole, int64_t index, int64_t count) INLINE_LAMBDA {
        for (int64_t c = 0; c < count; c += LANES) {
          Vector values;
          if constexpr (backward) values = load(whole + c, count - c);
          else values = load(part + c, count - c);
          if (dropout.threshold) {
            const auto keep = kept(index + c, dropout.key0, dropout.key1, dropout.threshold);
            values = keep ? values * dropout.scale : Vector{};
          }
          if constexpr (backward) store(part + c, values, count - c);
          else store(whole + c, values, count - c);
        }
      };
      side(a + p * first, y + p * channels, p * channels, first);
      if (second) side(b + p * second, y + p * channels + first, p * channels + first, second);
    }
  });
}
