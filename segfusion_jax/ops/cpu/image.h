// Images, and how the kernel of a convolution lies over them.
#pragma once

#include <algorithm>
#include <cstdint>

struct Image {
  int64_t count, height, width, channels;
  int64_t row() const { return width * channels; }
  int64_t size() const { return height * width * channels; }
};

// How a kernel lies over an image: for the output (h, w) its tap (i, j) meets the pixel
// (h * stride - top + i, w * stride - left + j), which outside the image is zero.
struct Window {
  int64_t stride, top, left;
};

// Pixels of a row of the image and the zeros around it, enough for `outputs` of a kernel of that size.
inline int64_t padded_width(const Image& image, int64_t outputs, int64_t size, const Window& window) {
  return std::max((outputs - 1) * window.stride + size, window.left + image.width);
}
