// 3x3 convolution of stride 1 with zeros around the image, and the gradient of its kernel.
//
// With rows padded by a pixel on each side, the three pixels under a row of the kernel lie one after the other in
// memory. A convolution is therefore three matrix products whose left operands are rows that overlap, and needs no copy
// of the image but the padded one. The gradient of the input is a convolution too, with the kernel turned round.
#pragma once

#include "depthwise.h"

constexpr int64_t TILE = 12;           // pixels, or kernel rows, that are summed in registers at once
constexpr int64_t BLOCK = 2 * LANES;  // filters, likewise

// [3, 3, channels, filters] as blocks of filters, each [9 channels, BLOCK]; zeros beyond the last filter.
class PackedKernel {
 public:
  PackedKernel(const float* kernel, int64_t channels, int64_t filters)
      : depth_(9 * channels), values_((filters + BLOCK - 1) / BLOCK * depth_ * BLOCK) {
    for (int64_t f = 0; f < filters; ++f) {
      float* to = &values_[f / BLOCK * depth_ * BLOCK + f % BLOCK];
      for (int64_t k = 0; k < depth_; ++k) to[k * BLOCK] = kernel[k * filters + f];
    }
  }
  const float* block(int64_t index) const { return &values_[index * depth_ * BLOCK]; }

 private:
  const int64_t depth_;
  std::vector<float> values_;
};

// Rows [first - 1, first + count] of one image, each with a pixel of zeros on both sides.
class PaddedBand {
 public:
  PaddedBand(const Image& image, int64_t count)
      : image_(image), row_((image.width + 2) * image.channels), values_((count + 2) * row_ + LANES) {}
  void fill(const float* pixels, int64_t first, int64_t count) {
    for (int64_t y = first - 1; y <= first + count; ++y) {
      float* to = &values_[(y - first + 1) * row_] + image_.channels;
      if (y < 0 || y >= image_.height) std::memset(to, 0, image_.row() * sizeof(float));
      else std::memcpy(to, pixels + y * image_.row(), image_.row() * sizeof(float));
    }
  }
  const float* data() const { return values_.data(); }
  int64_t row() const { return row_; }

 private:
  const Image image_;
  const int64_t row_;
  std::vector<float> values_;
};

// Rows that a task takes: about a thousand pixels, and at least two tasks a thread.
inline int64_t band_height(const Image& image, int64_t threads) {
  const int64_t most = std::max<int64_t>(1, image.count * image.height / (2 * threads));
  return std::min({image.height, most, std::max<int64_t>(1, 1024 / image.width)});
}

// `pixels` outputs of `vectors` x LANES filters each, from the padded rows at `input`.
template <int pixels, int vectors>
INLINE void conv_tile(const float* input, int64_t row, int64_t channels, const float* kernel, const float* bias,
                      int64_t filters, int64_t count, float* output) {
  constexpr int group = pixels % 3 == 0 ? 3 : 1;  // pixels that share a pointer
  Vector sums[pixels][vectors];
  for (int v = 0; v < vectors; ++v) {
    const Vector start = bias ? load(bias + v * LANES, std::max<int64_t>(0, count - v * LANES)) : Vector{};
    for (int p = 0; p < pixels; ++p) sums[p][v] = start;
  }
  for (int i = 0; i < 3; ++i) {
    const float* from[pixels / group];
    for (int g = 0; g < pixels / group; ++g) from[g] = input + i * row + g * group * channels;
    for (int64_t k = 0; k < 3 * channels; ++k, kernel += BLOCK) {
      Vector weights[vectors];
      for (int v = 0; v < vectors; ++v) weights[v] = load(kernel + v * LANES);
#pragma GCC unroll 12
      for (int p = 0; p < pixels; ++p) {
        const Vector value = fill(from[p / group][k + p % group * channels]);
        for (int v = 0; v < vectors; ++v) sums[p][v] += value * weights[v];
      }
    }
  }
  for (int p = 0; p < pixels; ++p) {
    for (int v = 0; v < vectors; ++v) {
      if (count > v * LANES) store(output + p * filters + v * LANES, sums[p][v], count - v * LANES);
    }
  }
}

template <int vectors>
void conv_row(const float* input, int64_t row, int64_t channels, const float* kernel, const float* bias, int64_t filters,
              int64_t count, int64_t width, float* output) {
  int64_t x = 0;
  for (; x + TILE <= width; x += TILE) {
    conv_tile<TILE, vectors>(input + x * channels, row, channels, kernel, bias, filters, count, output + x * filters);
  }
  for (; x + 4 <= width; x += 4) {
    conv_tile<4, vectors>(input + x * channels, row, channels, kernel, bias, filters, count, output + x * filters);
  }
  for (; x < width; ++x) {
    conv_tile<1, vectors>(input + x * channels, row, channels, kernel, bias, filters, count, output + x * filters);
  }
}

// y = x * kernel + bias; bias may be null.
inline void conv(ffi::ThreadPool& pool, const float* x, const float* kernel, const float* bias, Image in,
                 int64_t filters, float* y) {
  const PackedKernel packed(kernel, in.channels, filters);
  const int64_t height = band_height(in, pool.num_threads()), bands = (in.height + height - 1) / height;
  const int64_t tasks = in.count * bands;
  std::vector<PaddedBand> padded(num_workers(pool, tasks), PaddedBand(in, height));
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands, first = task % bands * height, rows = std::min(height, in.height - first);
    PaddedBand& band = padded[worker];
    band.fill(x + image * in.size(), first, rows);
    for (int64_t f = 0; f < filters; f += BLOCK) {
      const int64_t count = std::min(BLOCK, filters - f);
      const auto each_row = count > LANES ? conv_row<2> : conv_row<1>;
      for (int64_t r = 0; r < rows; ++r) {
        float* output = y + ((image * in.height + first + r) * in.width) * filters + f;
        each_row(band.data() + r * band.row(), band.row(), in.channels, packed.block(f / BLOCK), bias ? bias + f : nullptr,
                 filters, count, in.width, output);
      }
    }
  });
}

// Adds to `depth` rows of the kernel's gradient, at `total`, what the rows of a band contribute.
template <int depth, int vectors>
INLINE void conv_kernel_tile(const float* input, int64_t row, int64_t channels, const float* dy, int64_t rows,
                             int64_t width, int64_t filters, int64_t count, float* total, int64_t stride) {
  Vector sums[depth][vectors];
  for (int k = 0; k < depth; ++k) {
    for (int v = 0; v < vectors; ++v) sums[k][v] = load(total + k * stride + v * LANES);
  }
  const bool whole = count >= vectors * LANES;
  for (int64_t r = 0; r < rows; ++r, input += row) {
    const float* from = input;
    for (int64_t w = 0; w < width; ++w, from += channels, dy += filters) {
      Vector gradient[vectors];
      for (int v = 0; v < vectors; ++v) gradient[v] = whole ? load(dy + v * LANES) : load(dy + v * LANES, std::max<int64_t>(0, count - v * LANES));
#pragma GCC unroll 12
      for (int k = 0; k < depth; ++k) {
        const Vector value = fill(from[k]);
        for (int v = 0; v < vectors; ++v) sums[k][v] += value * gradient[v];
      }
    }
  }
  for (int k = 0; k < depth; ++k) {
    for (int v = 0; v < vectors; ++v) store(total + k * stride + v * LANES, sums[k][v]);
  }
}

template <int vectors>
void conv_kernel_block(const float* input, int64_t row, int64_t channels, const float* dy, int64_t rows, int64_t width,
                       int64_t filters, int64_t count, float* total, int64_t stride) {
  for (int i = 0; i < 3; ++i, input += row) {
    int64_t k = 0;
    for (; k + TILE <= 3 * channels; k += TILE, total += TILE * stride) {
      conv_kernel_tile<TILE, vectors>(input + k, row, channels, dy, rows, width, filters, count, total, stride);
    }
    for (; k < 3 * channels; k += 3, total += 3 * stride) {
      conv_kernel_tile<3, vectors>(input + k, row, channels, dy, rows, width, filters, count, total, stride);
    }
  }
}

inline void conv_kernel_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, Image in, int64_t filters,
                                 float* dkernel) {
  const int64_t height = band_height(in, pool.num_threads()), bands = (in.height + height - 1) / height;
  const int64_t tasks = in.count * bands, workers = num_workers(pool, tasks), depth = 9 * in.channels;
  const int64_t stride = (filters + BLOCK - 1) / BLOCK * BLOCK;
  std::vector<PaddedBand> padded(workers, PaddedBand(in, height));
  std::vector<float> totals(workers * depth * stride);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands, first = task % bands * height, rows = std::min(height, in.height - first);
    PaddedBand& band = padded[worker];
    band.fill(x + image * in.size(), first, rows);
    const float* gradient = dy + (image * in.height + first) * in.width * filters;
    for (int64_t f = 0; f < filters; f += BLOCK) {
      const int64_t count = std::min(BLOCK, filters - f);
      const auto block = count > LANES ? conv_kernel_block<2> : conv_kernel_block<1>;
      block(band.data(), band.row(), in.channels, gradient + f, rows, in.width, filters, count,
            &totals[worker * depth * stride + f], stride);
    }
  });
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t f = 0; f < filters; ++f) {
      double sum = 0;
      for (int64_t worker = 0; worker < workers; ++worker) sum += totals[(worker * depth + k) * stride + f];
      dkernel[k * filters + f] = sum;
    }
  }
}
