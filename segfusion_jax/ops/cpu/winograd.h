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

inline void winograd(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out, Window window,
                     const Epilogue& epilogue, Moments* moments, float* y) {
  const int64_t channels = in.channels, filters = out.channels;
  const int64_t across = (out.width + 1) / 2, down = (out.height + 1) / 2;  // tiles
  const std::vector<PackedKernel> packed = winograd_kernels(kernel, channels, filters);
  const int64_t fitting = std::max<int64_t>(1, 262144 / (16 * across * (channels + filters)));  // 1 MiB of both
  const int64_t height = std::min(down, std::min(fitting, std::max<int64_t>(1, in.count * down / (2 * pool.num_threads()))));
  const int64_t bands = (down + height - 1) / height, tasks = in.count * bands, workers = num_workers(pool, tasks);
  const int64_t width = std::max(2 * across + 2, window.left + in.width);
  std::vector<PaddedBand> padded(workers, PaddedBand(in, 2 * height + 2, window.left, width));
  // The 16 planes begin in different sets of the cache.
  const int64_t input_plane = height * across * channels + LANES, plane = height * across * filters + LANES;
  std::unique_ptr<float[]> inputs(new float[workers * 16 * input_plane]), products(new float[workers * 16 * plane]);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands, first = task % bands * height, rows = std::min(height, down - first);
    const int64_t tiles = rows * across;
    PaddedBand& band = padded[worker];
    band.fill(x + image * in.size(), 2 * first - window.top, 2 * rows + 2);
    float* input = &inputs[worker * 16 * input_plane];
    float* product = &products[worker * 16 * plane];

    for (int64_t tile = 0; tile < tiles; ++tile) {
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
          for (int j = 0; j < 4; ++j) store(input + (4 * i + j) * input_plane + tile * channels + c, v[j], channels - c);
        }
      }
    }
    for (int64_t e = 0; e < 16; ++e) {
      for (int64_t f = 0; f < filters; f += BLOCK) {
        product_row({1, 0, channels, channels, filters}, input + e * input_plane, packed[e].block(f),
                    std::min(BLOCK, filters - f), {}, tiles, product + e * plane + f);
      }
    }
    const Epilogue here = moments ? epilogue.with(*moments, worker) : epilogue;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t h = 2 * (first + tile / across), w = 2 * (tile % across);
      float* to = y + ((image * out.height + h) * out.width + w) * filters;
      for (int64_t f = 0; f < filters; f += LANES) {
        const int64_t count = filters - f;
        Vector columns[2][4];
        for (int j = 0; j < 4; ++j) {
          Vector m[4];
          for (int i = 0; i < 4; ++i) m[i] = load(product + (4 * i + j) * plane + tile * filters + f, count);
          columns[0][j] = m[0] + m[1] + m[2];
          columns[1][j] = m[1] - m[2] - m[3];
        }
        for (int i = 0; i < 2 && h + i < out.height; ++i) {
          const Vector* m = columns[i];
          Vector pair[2] = {m[0] + m[1] + m[2], m[1] - m[2] - m[3]}, single[1] = {pair[0]};
          if (w + 1 < out.width) here.at(f).finish(pair, to + i * out.row() + f, filters, count);
          else here.at(f).finish(single, to + i * out.row() + f, filters, count);
        }
      }
    }
    if (moments) moments->flush(worker);
  }, moments);
}
