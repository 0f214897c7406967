"""Forward passes in plain NumPy, written from the papers and from TensorFlow's documentation: inference mode."""

import numpy as np
from scipy.special import expit

EPSILON = 1e-3  # of every batch norm, as in Keras


def same_convolution(x, kernel, stride=1, *, depthwise=False):
    """Cross-correlation, zero-padded as TensorFlow's documentation says of 'SAME'; the kernel is HWIO or HWC."""
    size = kernel.shape[0]
    pads = [max(size - (n % stride or stride), 0) for n in x.shape[1:3]]
    padded = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijc->nhwc" if depthwise else "nhwcij,ijcf->nhwf", windows, kernel, optimize=True)


def transposed_convolution(x, kernel):
    """Each input pixel adds its multiple of the 3x3 kernel at twice its position."""
    batch, height, width, _ = x.shape
    out = np.zeros((batch, 2 * height + 1, 2 * width + 1, kernel.shape[-1]))
    for row in range(height):
        for column in range(width):
            stamp = np.einsum("nc,ijcf->nijf", x[:, row, column], kernel)
            out[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += stamp
    return out[:, :-1, :-1]


def max_pool(x):
    """Half an odd side is rounded up."""
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), constant_values=-np.inf)
    return np.maximum.reduce([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def batch_norm(x, scale, bias, mean, var):
    return (x - mean) / np.sqrt(var + EPSILON) * scale + bias


def double_conv(x, params, stats):
    """Twice a convolution, batch norm and ReLU; `params` and `stats` are those of `models.unet.DoubleConv`."""
    for n in "12":
        conv, norm, running = params["conv" + n], params["norm" + n], stats["norm" + n]
        x = same_convolution(x, conv["kernel"]) + conv["bias"]
        x = np.maximum(batch_norm(x, norm["scale"], norm["bias"], running["mean"], running["var"]), 0)
    return x


def unet(params, stats, x):
    """Logits of the paper's U-Net; `params` and `stats` are the nested dicts of `models.unet.UNet`."""
    skips = []
    for level in range(4):
        skips.append(double_conv(x, params["down"][level], stats["down"][level]))
        x = max_pool(skips[-1])
    x = double_conv(x, params["bottom"], stats["bottom"])
    for level in range(4):
        upsample = params["upsample"][level]
        x = transposed_convolution(x, upsample["kernel"]) + upsample["bias"]
        skip = skips.pop()
        x = np.concatenate([x[:, : skip.shape[1], : skip.shape[2]], skip], -1)
        x = double_conv(x, params["up"][level], stats["up"][level])
    return same_convolution(x, params["head"]["kernel"]) + params["head"]["bias"]


def unet_decoder(params, stats, x, skips, size):
    """Logits of `models.unet.EncoderUNet` from its encoder's last map, and of those above, from fine to coarse."""
    for level in range(4):
        skip = skips.pop() if skips else np.zeros((len(x), *size, 0))
        x = x.repeat(2, axis=1).repeat(2, axis=2)[:, : skip.shape[1], : skip.shape[2]]
        x = double_conv(np.concatenate([x, skip], -1), params["up"][level], stats["up"][level])
    return same_convolution(x, params["head"]["kernel"]) + params["head"]["bias"]


def silu(x):
    return x * expit(x)


def efficientnet_features(arrays, x, strided_blocks):
    """What EfficientNet's last layer reads, from weights named and laid out as in lukemelas/EfficientNet-PyTorch.

    Args:
      arrays: the weight file.
      x: [batch, height, width, channels] float64.
      strided_blocks: indices of the blocks of stride 2.
    """
    norm = "weight", "bias", "running_mean", "running_var"

    def conv_norm(x, conv, bn, stride=1):
        kernel = arrays[conv + ".weight"].astype(np.float64)
        if depthwise := conv.endswith("_depthwise_conv"):
            x = same_convolution(x, np.moveaxis(kernel[:, 0], 0, -1), stride, depthwise=depthwise)
        else:
            x = same_convolution(x, np.einsum("oihw->hwio", kernel), stride)
        return batch_norm(x, *(arrays[f"{bn}.{name}"].astype(np.float64) for name in norm))

    def block(x, prefix, stride):
        y = x
        if prefix + "_expand_conv.weight" in arrays:
            y = silu(conv_norm(y, prefix + "_expand_conv", prefix + "_bn0"))
        y = silu(conv_norm(y, prefix + "_depthwise_conv", prefix + "_bn1", stride))
        weights = {n: arrays[f"{prefix}_se_{n}.weight"][:, :, 0, 0].astype(np.float64) for n in ("reduce", "expand")}
        squeezed = silu(y.mean((1, 2)) @ weights["reduce"].T + arrays[prefix + "_se_reduce.bias"])
        excited = expit(squeezed @ weights["expand"].T + arrays[prefix + "_se_expand.bias"])
        y = conv_norm(y * excited[:, None, None], prefix + "_project_conv", prefix + "_bn2")
        return x + y if y.shape == x.shape else y

    x = silu(conv_norm(x, "_conv_stem", "_bn0", 2))
    for index in range(1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("_blocks."))):
        x = block(x, f"_blocks.{index}.", 2 if index in strided_blocks else 1)
    return silu(conv_norm(x, "_conv_head", "_bn1")).mean((1, 2))
