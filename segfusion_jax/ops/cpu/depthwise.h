// Depthwise convolution of [images, height, width, channels] with [size, size, channels], and its gradients.
#pragma once

#include "epilogue.h"
#include "image.h"

// Rows of one image, `width` pixels each with the zeros around them, of which any `kept` in succession can be held at
// once: a row outside the image is zeros too.
class PaddedRows {
 public:
  PaddedRows(const Image& image, int64_t left, int64_t width, int64_t kept)
      : image_(image), left_(left * image.channels), length_(width * image.channels + LANES), kept_(kept),
        zeros_(length_), rows_(length_ * kept), held_(kept, -1) {}

  // Takes another image, and forgets the rows of the one before.
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

// Calls body(rows, image, first, last, worker) for bands of the `height` rows that are to be made of each image: `rows`
// are the image's own, in the numbers that PaddedRows takes. There are bands for all threads even with one image.
template <typename Body>
void for_rows(ffi::ThreadPool& pool, const float* pixels, const Image& in, int64_t left, int64_t width, int64_t kept,
              int64_t height, const Body& body, bool repeatable = false) {
  const int64_t enough = 2 * num_threads(pool), most = std::min(height, in.count >= enough ? 1 : enough);
  const int64_t band = (height + most - 1) / most, bands = (height + band - 1) / band, tasks = in.count * bands;
  std::vector<PaddedRows> padded(num_workers(pool, tasks), PaddedRows(in, left, width, kept));
  parallel_for(pool, tasks, [&](int64_t task, int64_t worker) {
    const int64_t image = task / bands, first = task % bands * band;
    PaddedRows& rows = padded[worker];
    rows.start(pixels + image * in.size());
    body(rows, image, first, std::min(height, first + band), worker);
  }, repeatable);
}

template <int size, int stride>
void depthwise(ffi::ThreadPool& pool, const float* x, const float* kernel, Image in, Image out, Window window,
               const Epilogue& epilogue, Moments* moments, float* y) {
  const int64_t channels = in.channels, width = padded_width(in, out.width, size, window);
  const auto make = [&](PaddedRows& rows, int64_t image, int64_t first, int64_t last, int64_t worker) {
    for (int64_t h = first; h < last; ++h) {
      const float* inputs[size];
      for (int i = 0; i < size; ++i) inputs[i] = rows.row(h * stride + i - window.top);
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
  };
  for_rows(pool, x, in, window.left, width, size, out.height, make, moments);
}

// dx[y, x] = sum of dy[h, w] kernel[i, j] over h * stride + i - top = y and w * stride + j - left = x.
template <int size, int stride>
void depthwise_input_gradient(ffi::ThreadPool& pool, const float* dy, const float* kernel, Image in, Image out,
                              Window window, float* dx) {
  const int64_t channels = in.channels, before = size;
  const int64_t width = before + std::max(out.width, (in.width + window.left) / stride + 1);
  const auto make = [&](PaddedRows& rows, int64_t image, int64_t first, int64_t last, int64_t) {
    for (int64_t y = first; y < last; ++y) {
      constexpr int met = (size + stride - 1) / stride;  // taps that meet a row, at most
      const int64_t parity = (y + window.top) % stride;
      const float* gradients[met];
      for (int m = 0; m < met; ++m) gradients[m] = rows.row((y + window.top - parity) / stride - m) + before * channels;
      float* output = dx + image * in.size() + y * in.row();
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = std::min(LANES, channels - c);
        for (int64_t phase = 0; phase < stride; ++phase) {  // of the columns
          const int64_t shift = (phase + window.left) % stride;
          Vector taps[met * met];
          for (int a = 0; a < met; ++a) {
            for (int b = 0; b < met; ++b) {
              const int64_t i = parity + a * stride, j = shift + b * stride;
              taps[a * met + b] = i < size && j < size ? load(kernel + (i * size + j) * channels + c, count) : Vector{};
            }
          }
          for (int64_t x = phase; x < in.width; x += stride) {
            const int64_t w = (x + window.left - shift) / stride;
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
  };
  for_rows(pool, dy, out, before, width, size, in.height, make);
}

template <int size, int stride>
void depthwise_kernel_gradient(ffi::ThreadPool& pool, const float* x, const float* dy, Image in, Image out,
                               Window window, float* dkernel) {
  constexpr int64_t taps = size * size;
  const int64_t channels = in.channels, padded_channels = round_up(channels, LANES);
  const int64_t width = padded_width(in, out.width, size, window);
  std::vector<float> totals(num_threads(pool) * taps * padded_channels);
  const auto add = [&](PaddedRows& rows, int64_t image, int64_t first, int64_t last, int64_t worker) {
    for (int64_t h = first; h < last; ++h) {
      const float* inputs[size];
      for (int i = 0; i < size; ++i) inputs[i] = rows.row(h * stride + i - window.top);
      const float* gradient = dy + image * out.size() + h * out.row();
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t count = std::min(LANES, channels - c);
        float* total = &totals[worker * taps * padded_channels + c];
        Vector sums[taps];
        for (int t = 0; t < taps; ++t) sums[t] = load(total + t * padded_channels);
        for (int64_t w = 0; w < out.width; ++w) {
          const Vector g = load(gradient + w * channels + c, count);
#pragma GCC unroll 8
          for (int i = 0; i < size; ++i) {
            const float* from = inputs[i] + w * stride * channels + c;
#pragma GCC unroll 8
            for (int j = 0; j < size; ++j) sums[i * size + j] += load(from + j * channels) * g;
          }
        }
        for (int t = 0; t < taps; ++t) store(total + t * padded_channels, sums[t]);
      }
    }
  };
  for_rows(pool, x, in, window.left, width, size, out.height, add, true);
  add_workers(totals, taps, channels, padded_channels, dkernel);
}
