// 3x3 convolution of stride 1 by Winograd's algorithm F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308): 16 products for
// four outputs instead of 36.
#pragma once

#include "conv.h"

// B^T d of four vectors.
INLINE void transform_input(const Vector (&d)[4], Vector (&v)[4]) {
  v[0] = d[0] - d[2];
  v[1] = d[1] + d[2];
  v[2] = d[2] - d[1];
  v[3] = d[1] - d[3];
}

// G g of three values.
inline void transform_kernel(const float (&g)[3], float (&u)[4]) {
  u[0] = g[0];
  u[1] = 0.5f * (g[0] + g[1] + g[2]);
  u[2] = 0.5f * (g[0] - g[1] + g[2]);
  u[3] = g[2];
}

// [3, 3, channels, filters] as 16 kernels of 1x1.
inline std::vector<PackedKernel> winograd_kernels(const float* kernel, int64_t channels, int64_t filters) {
  const int64_t size = channels * filters;
  std::vector<float> transformed(16 * size);
  for (int64_t at = 0; at < size; ++at) {
    float columns[3][4], rows[4];
    for (int j = 0; j < 3; ++j) {
      transform_kernel({kernel[j * size + at], kernel[(3 + j) * size + at], kernel[(6 + j) * size + at]}, columns[j]);
    }
    for (int i = 0; i < 4; ++i) {
      transform_kernel({columns[0][i], columns[1][i], columns[2][i]}, rows);
      for (int j = 0; j < 4; ++j) transformed[(4 * i + j) * size + at] = rows[j];
    }
  }
  std::vector<PackedKernel> packed;
  for (int e = 0; e < 16; ++e) packed.emplace_back(&transformed[e * size], Taps{{0, 0}}, channels, filters);
  return packed;
}

// 16 numbers a tile and channel, one in each of 16 arrays [tiles, channels]: these begin in different sets of the
// cache.
struct Planes {
  int64_t size, channels;
  Planes(int64_t tiles, int64_t channels) : size(tiles * channels + LANES), channels(channels) {}
  int64_t at(int64_t element, int64_t tile) const { return element * size + tile * channels; }
};

// B^T d B of each 4x4 tile, which lie two pixels apart.
inline void transform_tiles(const PaddedBand& band, int64_t rows, int64_t across, const Planes& planes, float* inputs) {
  const int64_t channels = planes.channels;
  for (int64_t tile = 0; tile < rows * across; ++tile) {
    const float* from = band.data() + tile / across * 2 * band.row() + tile % across * 2 * channels;
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector d[4][4], columns[4][4];
      for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 4; ++i) d[j][i] = load(from + i * band.row() + j * channels + c, channels - c);
        transform_input(d[j], columns[j]);
      }
      for (int i = 0; i < 4; ++i) {
        Vector v[4];
        transform_input({columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, v);
        for (int j = 0; j < 4; ++j) store(inputs + planes.at(4 * i + j, tile) + c, v[j], channels - c);
      }
    }
  }
}

// A^T m A, the 2x2 outputs of each tile, to the rows of an image from `first` on.
inline void finish_tiles(const float* products, const Planes& planes, int64_t rows, int64_t across,
                         const Epilogue& epilogue, const Image& out, int64_t first, float* y) {
  const int64_t filters = planes.channels;
  for (int64_t tile = 0; tile < rows * across; ++tile) {
    const int64_t h = first + 2 * (tile / across), w = 2 * (tile % across);
    float* to = y + (h * out.width + w) * filters;
    for (int64_t f = 0; f < filters; f += LANES) {
      const int64_t count = filters - f;
      Vector columns[2][4];
      for (int j = 0; j < 4; ++j) {
        Vector m[4];
        for (int i = 0; i < 4; ++i) m[i] = load(products + planes.at(4 * i + j, tile) + f, count);
        columns[0][j] = m[0] + m[1] + m[2];
        columns[1][j] = m[1] - m[2] - m[3];
      }
      for (int i = 0; i < 2 && h + i < out.height; ++i) {
        const Vector* m = columns[i];
        Vector pair[2] = {m[0] + m[1] + m[2], m[1] - m[2] - m[3]}, single[1] = {pair[0]};
        if (w + 1 < out.width) epilogue.at(f).finish(pair, to + i * out.row() + f, filters, count);
        else epilogue.at(f).finish(single, to + i * out.row() + f, filters, count);
      }
    }
  }
}

inline void winograd(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out, Window window,
                     const Epilogue& epilogue, Moments* moments, float* y) {
  const int64_t channels = in.channels, filters = out.channels;
  const Image tiles{in.count, (out.height + 1) / 2, (out.width + 1) / 2, 1};
  const std::vector<PackedKernel> packed = winograd_kernels(kernel, channels, filters);
  const int64_t fitting = 262144 / (16 * tiles.width * (channels + filters));  // 1 MiB of inputs and products
  const int64_t height = band_height(pool, tiles, fitting);
  const Planes input_planes(height * tiles.width, channels), product_planes(height * tiles.width, filters);
  const int64_t inputs_size = 16 * input_planes.size, products_size = 16 * product_planes.size;
  const std::unique_ptr<float[]> all_inputs(new float[num_threads(pool) * inputs_size]);
  const std::unique_ptr<float[]> all_products(new float[num_threads(pool) * products_size]);
  const auto make = [&](const PaddedBand& band, int64_t image, int64_t first, int64_t rows, int64_t worker) {
    float *inputs = &all_inputs[worker * inputs_size], *products = &all_products[worker * products_size];
    transform_tiles(band, rows, tiles.width, input_planes, inputs);
    for (int64_t e = 0; e < 16; ++e) {
      for (int64_t f = 0; f < filters; f += BLOCK) {
        product_row({1, 0, channels, channels, filters}, inputs + input_planes.at(e, 0), packed[e].block(f),
                    std::min(BLOCK, filters - f), {}, rows * tiles.width, products + product_planes.at(e, 0) + f);
      }
    }
    const Epilogue here = moments ? epilogue.with(*moments, worker) : epilogue;
    finish_tiles(products, product_planes, rows, tiles.width, here, out, 2 * first, y + image * out.size());
    if (moments) moments->flush(worker);
  };
  for_bands(pool, x, in, tiles, 4, {2, window.top, window.left}, height, make, moments);
}
