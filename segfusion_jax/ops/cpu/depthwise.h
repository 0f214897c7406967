// Depthwise convolution of [images, height, width, channels] with [size, size, channels], and its gradients.
#pragma once

#include "epilogue.h"

struct Image {
  int64_t count, height, width, channels;
  int64_t row() const { return width * channels; }
  int64_t size() const { return height * width * channels; }
};

// Rows of one image with zeros around them: a row outside the image is zeros too.
class PaddedRows {
 public:
  PaddedRows(const Image& image, int64_t left, int64_t right, int64_t kept)
      : image_(image), left_(left * image.channels), length_((left + image.width + right) * image.channels + LANES),
        kept_(kept), zeros_(length_), rows_(length_ * kept), held_(kept, -1) {}

  // Forgets the rows of another image.
  void start(const float* pixels) {
    pixels_ = pixels;
    std::fill(held_.begin(), held_.end(), -1);
  }
  const float* row(int64_t y) {
    if (y < 0 || y >= image_.height) return zeros_.data();
    const int64_t slot = y % kept_;
    float* to = &rows_[slot * length_];
    if (held_[slot] != y) {
      std::memcpy(to + left_, pixels_ + y * image_.row(), image_.row() * sizeof(float));
      held_[slot] = y;
    }
    return to;
  }

 private:
  const Image image_;
  const int64_t left_, length_, kept_;
  std::vector<float> zeros_, rows_;
  std::vector<int64_t> held_;
  const float* pixels_ = nullptr;
};

// A band of rows of one image is a task; there are enough of them for all threads even with one image.
struct Bands {
  int64_t height, count;
  Bands(int64_t images, int64_t rows, int64_t threads) {
    count = std::min<int64_t>(rows, images >= 2 * threads ? 1 : 2 * threads);
    height = (rows + count - 1) / count;
    count = (rows + height - 1) / height;
  }
};

template <int size, int stride>
void depthwise(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out, int64_t top, int64_t left,
               const Epilogue& epilogue, Moments* moments, float* y) {
  const int64_t channels = in.channels;
  const int64_t right = std::max<int64_t>(0, (out.width - 1) * stride + size - left - in.width);
  const Bands bands(in.count, out.height, pool.num_threads());
  const int64_t tasks = in.count * bands.count;
  std::vector<PaddedRows> rows(num_workers(pool, tasks), PaddedRows(in, left, right, size));
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands.count, first = task % bands.count * bands.height;
    PaddedRows& padded = rows[worker];
    padded.start(x + image * in.size());
    for (int64_t h = first; h < std::min(out.height, first + bands.height); ++h) {
      const float* inputs[size];
      for (int i = 0; i < size; ++i) inputs[i] = padded.row(h * stride + i - top);
      float* output = y + image * out.size() + h * out.row();
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = std::min(LANES, channels - c);
        const Epilogue here = (moments ? epilogue.with(*moments, worker) : epilogue).at(c);
        Vector taps[size * size];
        for (int t = 0; t < size * size; ++t) taps[t] = load(kernel + t * channels + c, count);
        for (int64_t w = 0; w < out.width; ++w) {
          Vector sums[size] = {};
          for (int i = 0; i < size; ++i) {
            const float* from = inputs[i] + w * stride * channels + c;
#pragma GCC unroll 8
            for (int j = 0; j < size; ++j) sums[i] += load(from + j * channels) * taps[i * size + j];
          }
          for (int i = 1; i < size; ++i) sums[0] += sums[i];
          Vector sum[1] = {sums[0]};
          here.finish(sum, output + w * channels + c, 0, count);
        }
      }
    }
    if (moments) moments->flush(worker);
  }, moments);
}

// dx[y, x] = sum of dy[h, w] kernel[i, j] over h * stride + i - top = y and w * stride + j - left = x.
template <int size, int stride>
void depthwise_input_gradient(ffi::ThreadPool& pool, const float* dy, const float* kernel, Image in, Image out,
                              int64_t top, int64_t left, float* dx) {
  const int64_t channels = in.channels, before = size;
  const int64_t after = std::max<int64_t>(0, (in.width + left) / stride - out.width + 1);
  const Bands bands(in.count, in.height, pool.num_threads());
  const int64_t tasks = in.count * bands.count;
  std::vector<PaddedRows> rows(num_workers(pool, tasks), PaddedRows(out, before, after, size));
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands.count, first = task % bands.count * bands.height;
    PaddedRows& padded = rows[worker];
    padded.start(dy + image * out.size());
    for (int64_t y = first; y < std::min(in.height, first + bands.height); ++y) {
      constexpr int met = (size + stride - 1) / stride;  // taps that meet a row, at most
      const int64_t parity = (y + top) % stride;
      const float* gradients[met];
      for (int m = 0; m < met; ++m) gradients[m] = padded.row((y + top - parity) / stride - m) + before * channels;
      float* output = dx + image * in.size() + y * in.row();
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = std::min(LANES, channels - c);
        for (int64_t phase = 0; phase < stride; ++phase) {  // of the columns
          const int64_t shift = (phase + left) % stride;
          Vector taps[met * met];
          for (int a = 0; a < met; ++a) {
            for (int b = 0; b < met; ++b) {
              const int64_t i = parity + a * stride, j = shift + b * stride;
              taps[a * met + b] = i < size && j < size ? load(kernel + (i * size + j) * channels + c, count) : Vector{};
            }
          }
          for (int64_t x = phase; x < in.width; x += stride) {
            const int64_t w = (x + left - shift) / stride;
            Vector sums[met] = {};
            for (int a = 0; a < met; ++a) {
              const float* from = gradients[a] + w * channels + c;
#pragma GCC unroll 8
              for (int b = 0; b < met; ++b) sums[a] += load(from - b * channels) * taps[a * met + b];
            }
            for (int a = 1; a < met; ++a) sums[0] += sums[a];
            store(output + x * channels + c, sums[0], count);
          }
        }
      }
    }
  });
}

template <int size, int stride>
void depthwise_kernel_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, Image in, Image out, int64_t top,
                               int64_t left, float* dkernel) {
  const int64_t channels = in.channels, padded_channels = (channels + LANES - 1) / LANES * LANES;
  const int64_t right = std::max<int64_t>(0, (out.width - 1) * stride + size - left - in.width);
  const Bands bands(in.count, out.height, pool.num_threads());
  const int64_t tasks = in.count * bands.count, workers = num_workers(pool, tasks), taps = size * size;
  std::vector<PaddedRows> rows(workers, PaddedRows(in, left, right, size));
  std::vector<float> totals(workers * taps * padded_channels);
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands.count, first = task % bands.count * bands.height;
    PaddedRows& padded = rows[worker];
    padded.start(x + image * in.size());
    for (int64_t h = first; h < std::min(out.height, first + bands.height); ++h) {
      const float* inputs[size];
      for (int i = 0; i < size; ++i) inputs[i] = padded.row(h * stride + i - top);
      const float* gradient = dy + image * out.size() + h * out.row();
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = std::min(LANES, channels - c);
        float* total = &totals[worker * taps * padded_channels + c];
        Vector sums[size * size];
        for (int t = 0; t < size * size; ++t) sums[t] = load(total + t * padded_channels);
        for (int64_t w = 0; w < out.width; ++w) {
          const Vector g = load(gradient + w * channels + c, count);
#pragma GCC unroll 8
          for (int i = 0; i < size; ++i) {
            const float* from = inputs[i] + w * stride * channels + c;
#pragma GCC unroll 8
            for (int j = 0; j < size; ++j) sums[i * size + j] += load(from + j * channels) * g;
          }
        }
        for (int t = 0; t < size * size; ++t) store(total + t * padded_channels, sums[t]);
      }
    }
  }, true);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t worker = 0; worker < workers; ++worker) sum += totals[(worker * taps + t) * padded_channels + c];
      dkernel[t * channels + c] = sum;
    }
  }
}
