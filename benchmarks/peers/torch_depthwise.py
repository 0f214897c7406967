"""PyTorch's depthwise convolution, channels_last; bfloat16 on a GPU."""

import torch
from depthwise_passes import batch, serve_passes


def main() -> None:
    """Serves PyTorch's depthwise convolution."""
    images = batch()
    gpu = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = True
    options = dict(device="cuda", dtype=torch.bfloat16) if gpu else {}

    def prepare(layer, which):
        side, channels, size, stride = layer
        x = torch.randn(images, channels, side, side, **options).to(memory_format=torch.channels_last)
        kernel = torch.randn(channels, 1, size, size, **options).to(memory_format=torch.channels_last)
        shape = [stride, stride], [size // 2] * 2, [1, 1]
        gradient = torch.randn_like(torch.conv2d(x, kernel, None, *shape, channels))
        mask = [which == "input gradient", which == "kernel gradient", False]

        def run(times):
            for _ in range(times):
                if which == "forward":
                    torch.conv2d(x, kernel, None, *shape, channels)
                else:
                    torch.ops.aten.convolution_backward(
                        gradient, x, kernel, None, *shape, False, [0, 0], channels, mask
                    )
            if gpu:
                torch.cuda.synchronize()

        return run

    serve_passes(prepare)


main()
