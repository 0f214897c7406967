// What XLA calls: each handler unpacks its buffers and runs a kernel on XLA's own threads. Where there is no memory for
// what a kernel keeps beside its buffers, XLA makes an error of the exception.
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "batch_norm.h"
#include "conv.h"
#include "depthwise.h"
#include "dropout.h"
#include "excite.h"
#include "pool.h"
#include "winograd.h"

namespace {

using Array = ffi::Buffer<ffi::F32>;
using Seed = ffi::Buffer<ffi::U32>;
using Result = ffi::Result<Array>;

// Where a kernel writes. XLA asks the system for fresh memory at every step, and what is touched for the first time
// costs least in huge pages.
float* fresh(Result& result) {
#ifdef __linux__
  constexpr uintptr_t page = 4096, huge = 2 << 20;
  if (result->size_bytes() >= huge) {
    const auto begin = reinterpret_cast<uintptr_t>(result->untyped_data()) & -page;
    madvise(reinterpret_cast<void*>(begin), result->size_bytes(), MADV_HUGEPAGE);
  }
#endif
  return result->typed_data();
}

Image image_of(const Array& x) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3]};
}

int64_t channels_of(const Array& x) { return x.dimensions().back(); }

// Calls body.template operator()<activation>() for the activation of that number.
template <typename Body>
ffi::Error with_activation(int64_t activation, const Body& body) {
  switch (Activation(activation)) {
    case Activation::kIdentity: body.template operator()<Activation::kIdentity>(); break;
    case Activation::kRelu: body.template operator()<Activation::kRelu>(); break;
    case Activation::kSilu: body.template operator()<Activation::kSilu>(); break;
    case Activation::kHardSwish: body.template operator()<Activation::kHardSwish>(); break;
    default: return ffi::Error::InvalidArgument("unknown activation");
  }
  return ffi::Error::Success();
}

template <typename Body>
ffi::Error with_window(int64_t size, int64_t stride, const Body& body) {
  if (size == 3 && stride == 1) body.template operator()<3, 1>();
  else if (size == 3 && stride == 2) body.template operator()<3, 2>();
  else if (size == 5 && stride == 1) body.template operator()<5, 1>();
  else if (size == 5 && stride == 2) body.template operator()<5, 2>();
  else return ffi::Error::InvalidArgument("kernels of 3 and 5 and strides of 1 and 2 are built");
  return ffi::Error::Success();
}

ffi::Error ChannelMoments(ffi::ThreadPool pool, Array x, Result sum, Result square) {
  moments(pool, x.typed_data(), x.element_count(), channels_of(x), sum->typed_data(), square->typed_data());
  return ffi::Error::Success();
}

ffi::Error NormAct(ffi::ThreadPool pool, Array x, Array scale, Array shift, Result y, int64_t activation) {
  return with_activation(activation, [&]<Activation act>() {
    norm_act<act>(pool, x.typed_data(), scale.typed_data(), shift.typed_data(), x.element_count(), channels_of(x),
                  fresh(y));
  });
}

ffi::Error NormActSums(ffi::ThreadPool pool, Array x, Array dy, Array scale, Array shift, Result sum, Result product,
                       int64_t activation) {
  return with_activation(activation, [&]<Activation act>() {
    norm_act_sums<act>(pool, x.typed_data(), dy.typed_data(), scale.typed_data(), shift.typed_data(), x.element_count(),
                       channels_of(x), sum->typed_data(), product->typed_data());
  });
}

ffi::Error NormActGradient(ffi::ThreadPool pool, Array x, Array dy, Array scale, Array shift, Array linear,
                           Array constant, Result dx, int64_t activation) {
  return with_activation(activation, [&]<Activation act>() {
    norm_act_gradient<act>(pool, x.typed_data(), dy.typed_data(), scale.typed_data(), shift.typed_data(),
                           linear.typed_data(), constant.typed_data(), x.element_count(), channels_of(x),
                           fresh(dx));
  });
}

// Runs body(epilogue, moments) for a convolution to y: moments, in training, where sum is not empty.
template <typename Body>
void with_epilogue(ffi::ThreadPool& pool, const Array& bias, int64_t activation, Result& sum, Result& square,
                   const Body& body) {
  const int64_t channels = sum->element_count();
  const Epilogue epilogue{bias.element_count() ? bias.typed_data() : nullptr, Activation(activation), nullptr, nullptr};
  if (channels == 0) return body(epilogue, static_cast<Moments*>(nullptr));
  Moments moments(num_threads(pool), channels);
  body(epilogue, &moments);
  moments.finish(sum->typed_data(), square->typed_data());
}

ffi::Error Depthwise(ffi::ThreadPool pool, Array x, Array kernel, Array bias, Result y, Result sum, Result square,
                     int64_t size, int64_t stride, int64_t top, int64_t left, int64_t activation) {
  return with_window(size, stride, [&]<int k, int s>() {
    with_epilogue(pool, bias, activation, sum, square, [&](const Epilogue& epilogue, Moments* moments) {
      depthwise<k, s>(pool, x.typed_data(), kernel.typed_data(), image_of(x), image_of(*y), {s, top, left}, epilogue,
                      moments, fresh(y));
    });
  });
}

ffi::Error DepthwiseInputGradient(ffi::ThreadPool pool, Array dy, Array kernel, Result dx, int64_t size, int64_t stride,
                                  int64_t top, int64_t left) {
  return with_window(size, stride, [&]<int k, int s>() {
    depthwise_input_gradient<k, s>(pool, dy.typed_data(), kernel.typed_data(), image_of(*dx), image_of(dy),
                                   {s, top, left}, fresh(dx));
  });
}

ffi::Error DepthwiseKernelGradient(ffi::ThreadPool pool, Array x, Array dy, Result dkernel, int64_t size,
                                   int64_t stride, int64_t top, int64_t left) {
  return with_window(size, stride, [&]<int k, int s>() {
    depthwise_kernel_gradient<k, s>(pool, x.typed_data(), dy.typed_data(), image_of(x), image_of(dy), {s, top, left},
                                    fresh(dkernel));
  });
}

// A size of 1 is for stride 1.
ffi::Error Conv(ffi::ThreadPool pool, Array x, Array kernel, Array bias, Result y, Result sum, Result square,
                int64_t size, int64_t stride, int64_t top, int64_t left, int64_t activation) {
  const Image in = image_of(x), out = image_of(*y);
  with_epilogue(pool, bias, activation, sum, square, [&](const Epilogue& epilogue, Moments* moments) {
    if (size == 1) {
      return pointwise(pool, x.typed_data(), kernel.typed_data(), out.count * out.height * out.width, in.channels,
                       out.channels, epilogue, moments, fresh(y));
    }
    const bool transforms_pay = stride == 1 && std::min(in.channels, out.channels) >= 32;
    const auto convolve = transforms_pay ? winograd : conv;
    convolve(pool, x.typed_data(), kernel.typed_data(), in, out, {stride, top, left}, epilogue, moments, fresh(y));
  });
  return ffi::Error::Success();
}

ffi::Error ConvKernelGradient(ffi::ThreadPool pool, Array x, Array dy, Result dkernel, int64_t size, int64_t stride,
                              int64_t top, int64_t left) {
  const Image in = image_of(x), out = image_of(dy);
  if (size == 1) {
    pointwise_kernel_gradient(pool, x.typed_data(), dy.typed_data(), out.count * out.height * out.width, in.channels,
                              out.channels, fresh(dkernel));
  } else {
    conv_kernel_gradient(pool, x.typed_data(), dy.typed_data(), in, out, {stride, top, left}, fresh(dkernel));
  }
  return ffi::Error::Success();
}

ffi::Error TransposedConv(ffi::ThreadPool pool, Array x, Array kernel, Array bias, Result y) {
  transposed_conv(pool, x.typed_data(), kernel.typed_data(), image_of(x), image_of(*y),
                  {bias.typed_data(), Activation::kIdentity, nullptr, nullptr}, fresh(y));
  return ffi::Error::Success();
}

ffi::Error MaxPool(ffi::ThreadPool pool, Array x, Result y) {
  max_pool(pool, x.typed_data(), image_of(x), fresh(y));
  return ffi::Error::Success();
}

ffi::Error MaxPoolGradient(ffi::ThreadPool pool, Array x, Array dy, Result dx) {
  max_pool_gradient(pool, x.typed_data(), dy.typed_data(), image_of(x), fresh(dx));
  return ffi::Error::Success();
}

ffi::Error ImageSums(ffi::ThreadPool pool, Array x, Array y, Result sums) {
  const Image in = image_of(x);
  image_sums(pool, x.typed_data(), y.element_count() ? y.typed_data() : nullptr, in.count, in.size(), in.channels,
             sums->typed_data());
  return ffi::Error::Success();
}

ffi::Error ImageScale(ffi::ThreadPool pool, Array x, Array scale, Array shift, Result y) {
  const Image in = image_of(x);
  image_scale(pool, x.typed_data(), scale.typed_data(), shift.typed_data(), in.count, in.size(), in.channels, fresh(y));
  return ffi::Error::Success();
}

Dropout dropout_of(const Seed& seed, int64_t threshold, float scale) {
  return {seed.typed_data()[0], seed.typed_data()[1], uint32_t(threshold), scale};
}

ffi::Error ConcatenateDropout(ffi::ThreadPool pool, Array a, Array b, Seed seed, Result y, int64_t threshold,
                              float scale) {
  concatenate_dropout<false>(pool, a.typed_data(), b.typed_data(), a.element_count() / channels_of(a), channels_of(a),
                             channels_of(b), dropout_of(seed, threshold, scale), fresh(y));
  return ffi::Error::Success();
}

ffi::Error ConcatenateDropoutGradient(ffi::ThreadPool pool, Array dy, Seed seed, Result da, Result db,
                                      int64_t threshold, float scale) {
  concatenate_dropout<true>(pool, fresh(da), fresh(db), dy.element_count() / channels_of(dy),
                            channels_of(*da), channels_of(*db), dropout_of(seed, threshold, scale), dy.typed_data());
  return ffi::Error::Success();
}

}  // namespace

#define HANDLER(symbol, function, binding) XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, function, binding)
#define CALL ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()

HANDLER(segfusion_moments, ChannelMoments, CALL.Arg<Array>().Ret<Array>().Ret<Array>());
HANDLER(segfusion_norm_act, NormAct,
        CALL.Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Attr<int64_t>("activation"));
HANDLER(segfusion_norm_act_sums, NormActSums,
        CALL.Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>().Attr<int64_t>("activation"));
HANDLER(segfusion_norm_act_gradient, NormActGradient,
        CALL.Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Attr<int64_t>(
            "activation"));

#define WINDOW Attr<int64_t>("size").Attr<int64_t>("stride").Attr<int64_t>("top").Attr<int64_t>("left")
#define CONVOLVE Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>().Ret<Array>().WINDOW

HANDLER(segfusion_depthwise, Depthwise, CALL.CONVOLVE.Attr<int64_t>("activation"));
HANDLER(segfusion_depthwise_input_gradient, DepthwiseInputGradient, CALL.Arg<Array>().Arg<Array>().Ret<Array>().WINDOW);
HANDLER(segfusion_depthwise_kernel_gradient, DepthwiseKernelGradient,
        CALL.Arg<Array>().Arg<Array>().Ret<Array>().WINDOW);
HANDLER(segfusion_conv, Conv, CALL.CONVOLVE.Attr<int64_t>("activation"));
HANDLER(segfusion_conv_kernel_gradient, ConvKernelGradient, CALL.Arg<Array>().Arg<Array>().Ret<Array>().WINDOW);
HANDLER(segfusion_transposed_conv, TransposedConv, CALL.Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>());
HANDLER(segfusion_max_pool, MaxPool, CALL.Arg<Array>().Ret<Array>());
HANDLER(segfusion_max_pool_gradient, MaxPoolGradient, CALL.Arg<Array>().Arg<Array>().Ret<Array>());

HANDLER(segfusion_image_sums, ImageSums, CALL.Arg<Array>().Arg<Array>().Ret<Array>());
HANDLER(segfusion_image_scale, ImageScale, CALL.Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>());

#define DROPPED Attr<int64_t>("threshold").Attr<float>("scale")

HANDLER(segfusion_concatenate_dropout, ConcatenateDropout,
        CALL.Arg<Array>().Arg<Array>().Arg<Seed>().Ret<Array>().DROPPED);
HANDLER(segfusion_concatenate_dropout_gradient, ConcatenateDropoutGradient,
        CALL.Arg<Array>().Arg<Seed>().Ret<Array>().Ret<Array>().DROPPED);
