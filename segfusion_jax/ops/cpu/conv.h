// Convolution of 1x1, and of 3x3 with any stride, the transpose of that with stride 2, and the gradients of kernels.
//
// With zeros around the image, the pixels under a row of the kernel lie one after the other in memory. A convolution is
// therefore three matrix products whose left operands are rows that overlap, and needs no copy of the image but the
// padded one. The transposed convolution is four such products, one for the outputs of each parity. The gradient of the
// input is a convolution too: see ops/conv.py.
#pragma once

#include <array>

#include "epilogue.h"
#include "image.h"

constexpr int64_t TILE = 12;          // pixels, or kernel rows, that are summed in registers at once
constexpr int64_t BLOCK = 2 * LANES;  // filters, likewise

using Taps = std::vector<std::array<int64_t, 2>>;  // places in a kernel

// The chosen taps of [3, 3, channels, filters] as blocks of filters, each [taps, channels, BLOCK], with zeros beyond
// the last filter.
class PackedKernel {
 public:
  PackedKernel(const float* kernel, const Taps& taps, int64_t channels, int64_t filters)
      : depth_(taps.size() * channels), values_(depth_ * round_up(filters, BLOCK)) {
    for (int64_t k = 0; k < depth_; ++k) {
      const auto [i, j] = taps[k / channels];
      const float* from = kernel + ((3 * i + j) * channels + k % channels) * filters;
      for (int64_t f = 0; f < filters; ++f) values_[(f / BLOCK * depth_ + k) * BLOCK + f % BLOCK] = from[f];
    }
  }
  const float* block(int64_t filter) const { return &values_[filter / BLOCK * depth_ * BLOCK]; }

 private:
  const int64_t depth_;
  std::vector<float> values_;
};

// Some rows of an image with zeros around them.
class PaddedBand {
 public:
  PaddedBand(const Image& image, int64_t rows, int64_t left, int64_t width)
      : image_(image), left_(left * image.channels), row_(width * image.channels), values_(rows * row_ + LANES) {}
  // Takes the rows [first, first + count), of which those outside the image are zeros.
  void fill(const float* pixels, int64_t first, int64_t count) {
    for (int64_t y = first; y < first + count; ++y) {
      float* to = &values_[(y - first) * row_] + left_;
      if (y < 0 || y >= image_.height) std::memset(to, 0, image_.row() * sizeof(float));
      else std::memcpy(to, pixels + y * image_.row(), image_.row() * sizeof(float));
    }
  }
  const float* data() const { return values_.data(); }
  int64_t row() const { return row_; }

 private:
  const Image image_;
  const int64_t left_, row_;
  std::vector<float> values_;
};

// Rows of `out` that a task makes: no more than are said to fit, and at least two tasks a thread.
inline int64_t band_height(const ffi::ThreadPool& pool, const Image& out, int64_t fitting) {
  const int64_t most = out.count * out.height / (2 * num_threads(pool));
  return std::max<int64_t>(1, std::min({out.height, most, fitting}));
}

constexpr int64_t BAND = 1024;  // pixels of a band: few enough to stay in the cache

// Calls body(band, image, first, rows, worker) for bands of `height` rows of each image of `out`, of fewer at its end:
// `band` holds what a kernel of `size` meets of `in` there.
template <typename Body>
void for_bands(ffi::ThreadPool& pool, const float* x, const Image& in, const Image& out, int64_t size,
               const Window& window, int64_t height, const Body& body, bool repeatable = false) {
  const int64_t bands = (out.height + height - 1) / height, tasks = out.count * bands;
  const int64_t width = padded_width(in, out.width, size, window);
  const PaddedBand empty(in, (height - 1) * window.stride + size, window.left, width);
  std::vector<PaddedBand> padded(num_workers(pool, tasks), empty);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands, first = task % bands * height, rows = std::min(height, out.height - first);
    PaddedBand& band = padded[worker];
    band.fill(x + image * in.size(), first * window.stride - window.top, (rows - 1) * window.stride + size);
    body(band, image, first, rows, worker);
  }, repeatable);
}

// The sums behind one row of outputs: `rows` rows of `depth` values each, from every `pixel` values on.
struct Product {
  int64_t rows, row, depth, pixel;
  int64_t stride;  // from one output to the next
};

// `pixels` outputs of `vectors` x LANES filters each, of which `filters` are there.
template <int pixels, int vectors>
INLINE void product_tile(const Product& product, const float* input, const float* kernel, int64_t filters,
                         const Epilogue& epilogue, float* output) {
  constexpr int group = pixels % 3 == 0 ? 3 : 1;  // pixels that share a pointer
  Vector sums[vectors][pixels] = {};
  const int64_t pixel = product.pixel;
  for (int64_t i = 0; i < product.rows; ++i, input += product.row) {
    const float* from[pixels / group];
    for (int g = 0; g < pixels / group; ++g) from[g] = input + g * group * pixel;
    for (int64_t k = 0; k < product.depth; ++k, kernel += BLOCK) {
      Vector weights[vectors];
      for (int v = 0; v < vectors; ++v) weights[v] = load(kernel + v * LANES);
#pragma GCC unroll 12
      for (int p = 0; p < pixels; ++p) {
        const Vector value = fill(from[p / group][k + p % group * pixel]);
        for (int v = 0; v < vectors; ++v) sums[v][p] += value * weights[v];
      }
    }
  }
  for (int v = 0; v < vectors; ++v) {
    epilogue.at(v * LANES).finish(sums[v], output + v * LANES, product.stride, filters - v * LANES);
  }
}

// A row of outputs of one block of filters.
inline void product_row(const Product& product, const float* input, const float* kernel, int64_t filters,
                        const Epilogue& epilogue, int64_t width, float* output) {
  int64_t x = 0;
  const auto tiles = [&]<int pixels, int vectors>() INLINE_LAMBDA {
    for (; x + pixels <= width; x += pixels) {
      product_tile<pixels, vectors>(product, input + x * product.pixel, kernel, filters, epilogue,
                                    output + x * product.stride);
    }
  };
  if (filters > LANES) {
    tiles.template operator()<TILE, 2>();
    tiles.template operator()<3, 2>();
    tiles.template operator()<1, 2>();
  } else {
    tiles.template operator()<TILE, 1>();
    tiles.template operator()<3, 1>();
    tiles.template operator()<1, 1>();
  }
}

// y = act(x * kernel + bias), a kernel of 1x1 on `pixels` pixels.
inline void pointwise(ffi::ThreadPool& pool, const float* x, const float* kernel, int64_t pixels, int64_t channels,
                      int64_t filters, const Epilogue& epilogue, Moments* moments, float* y) {
  const PackedKernel packed(kernel, {{0, 0}}, channels, filters);
  const int64_t most = std::max<int64_t>(TILE, 65536 / (channels * TILE) * TILE);  // 256 KiB of x
  const int64_t band = std::min(most, (pixels / (2 * num_threads(pool)) + TILE) / TILE * TILE);
  parallel_for(pool, (pixels + band - 1) / band, [&](int64_t task, int64_t worker) {
    const int64_t first = task * band, count = std::min(band, pixels - first);
    const Product product{1, 0, channels, channels, filters};
    const Epilogue here = moments ? epilogue.with(*moments, worker) : epilogue;
    for (int64_t f = 0; f < filters; f += BLOCK) {
      product_row(product, x + first * channels, packed.block(f), std::min(BLOCK, filters - f), here.at(f), count,
                  y + first * filters + f);
    }
    if (moments) moments->flush(worker);
  }, moments);
}

inline void conv(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out, Window window,
                 const Epilogue& epilogue, Moments* moments, float* y) {
  const int64_t filters = out.channels, stride = window.stride;
  const Taps all{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {2, 2}};
  const PackedKernel packed(kernel, all, in.channels, filters);
  const auto make = [&](const PaddedBand& band, int64_t image, int64_t first, int64_t rows, int64_t worker) {
    const Product product{3, band.row(), 3 * in.channels, stride * in.channels, filters};
    const Epilogue here = moments ? epilogue.with(*moments, worker) : epilogue;
    for (int64_t f = 0; f < filters; f += BLOCK) {
      for (int64_t r = 0; r < rows; ++r) {
        product_row(product, band.data() + r * stride * band.row(), packed.block(f), std::min(BLOCK, filters - f),
                    here.at(f), out.width, y + (image * out.height + first + r) * out.row() + f);
      }
    }
    if (moments) moments->flush(worker);
  };
  for_bands(pool, x, in, out, 3, window, band_height(pool, out, BAND / out.width), make, moments);
}

// 'SAME', stride 2: y[2h + i, 2w + j] += x[h, w] kernel[i, j] for i and j in 0, 1, 2; what falls outside is lost.
inline void transposed_conv(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out,
                            const Epilogue& epilogue, float* y) {
  const int64_t channels = in.channels, filters = out.channels;
  // An even output meets the taps 2, of the input before it, and 0; an odd one meets the tap 1.
  const std::vector<int64_t> met[2] = {{2, 0}, {1}};
  std::vector<PackedKernel> packed;
  for (int phase = 0; phase < 4; ++phase) {
    Taps taps;
    for (int64_t i : met[phase / 2]) {
      for (int64_t j : met[phase % 2]) taps.push_back({i, j});
    }
    packed.emplace_back(kernel, taps, channels, filters);
  }
  const auto make = [&](const PaddedBand& band, int64_t image, int64_t first, int64_t rows, int64_t) {
    for (int64_t f = 0; f < filters; f += BLOCK) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t phase = 0; phase < 4; ++phase) {
          const int64_t a = phase / 2, b = phase % 2;
          const Product product{2 - a, band.row(), (2 - b) * channels, channels, 2 * filters};
          const float* input = band.data() + (r + a) * band.row() + b * channels;
          float* output = y + (image * out.height + 2 * (first + r) + a) * out.row() + b * filters + f;
          product_row(product, input, packed[phase].block(f), std::min(BLOCK, filters - f), epilogue.at(f), in.width,
                      output);
        }
      }
    }
  };
  // Each input is met together with the one above and the one before it.
  for_bands(pool, x, in, in, 2, {1, 1, 1}, band_height(pool, in, BAND / in.width), make);
}

// Adds to `depth` rows of the kernel's gradient, at `total`, what the rows of a band contribute.
template <int depth, int vectors>
INLINE void kernel_tile(const float* input, int64_t row, int64_t pixel, const float* dy, int64_t rows, int64_t width,
                        int64_t filters, int64_t count, float* total, int64_t stride) {
  Vector sums[depth][vectors];
  for (int k = 0; k < depth; ++k) {
    for (int v = 0; v < vectors; ++v) sums[k][v] = load(total + k * stride + v * LANES);
  }
  for (int64_t r = 0; r < rows; ++r, input += row) {
    const float* from = input;
    for (int64_t w = 0; w < width; ++w, from += pixel, dy += filters) {
      Vector gradient[vectors];
      for (int v = 0; v < vectors; ++v) gradient[v] = load(dy + v * LANES, count - v * LANES);
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

// The same for all `depth` rows.
inline void kernel_rows(const float* input, int64_t row, int64_t pixel, const float* dy, int64_t rows, int64_t width,
                        int64_t filters, int64_t count, int64_t depth, float* total, int64_t stride) {
  int64_t k = 0;
  const auto tiles = [&]<int step, int vectors>() INLINE_LAMBDA {
    for (; k + step <= depth; k += step) {
      kernel_tile<step, vectors>(input + k, row, pixel, dy, rows, width, filters, count, total + k * stride, stride);
    }
  };
  if (count > LANES) {
    tiles.template operator()<TILE, 2>();
    tiles.template operator()<4, 2>();
    tiles.template operator()<1, 2>();
  } else {
    tiles.template operator()<TILE, 1>();
    tiles.template operator()<4, 1>();
    tiles.template operator()<1, 1>();
  }
}

// x^T dy over `pixels` pixels.
inline void pointwise_kernel_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, int64_t pixels,
                                      int64_t channels, int64_t filters, float* dkernel) {
  const int64_t padded_filters = round_up(filters, BLOCK);
  const int64_t most = std::max<int64_t>(64, 131072 / (channels + filters));  // 512 KiB of x and dy
  const int64_t band = std::min(most, pixels / (2 * num_threads(pool)) + 1);
  const int64_t tasks = (pixels + band - 1) / band, workers = num_workers(pool, tasks);
  std::vector<float> totals(workers * channels * padded_filters);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t first = task * band, count = std::min(band, pixels - first);
    for (int64_t f = 0; f < filters; f += BLOCK) {
      kernel_rows(x + first * channels, 0, channels, dy + first * filters + f, 1, count, filters, filters - f, channels,
                  &totals[worker * channels * padded_filters + f], padded_filters);
    }
  }, true);
  add_workers(totals, channels, filters, padded_filters, dkernel);
}

inline void conv_kernel_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, Image in, Image out,
                                 Window window, float* dkernel) {
  const int64_t filters = out.channels, stride = window.stride, depth = 9 * in.channels;
  const int64_t padded_filters = round_up(filters, BLOCK);
  std::vector<float> totals(num_threads(pool) * depth * padded_filters);
  const auto add = [&](const PaddedBand& band, int64_t image, int64_t first, int64_t rows, int64_t worker) {
    for (int64_t f = 0; f < filters; f += BLOCK) {
      const float* gradient = dy + (image * out.height + first) * out.row() + f;
      for (int64_t i = 0; i < 3; ++i) {
        kernel_rows(band.data() + i * band.row(), stride * band.row(), stride * in.channels, gradient, rows, out.width,
                    filters, filters - f, 3 * in.channels,
                    &totals[(worker * depth + i * 3 * in.channels) * padded_filters + f], padded_filters);
      }
    }
  };
  for_bands(pool, x, in, out, 3, window, band_height(pool, out, BAND / out.width), add, true);
  add_workers(totals, depth, filters, padded_filters, dkernel);
}
