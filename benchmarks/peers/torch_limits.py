"""What the machine can do: a large matrix product and a large copy, in PyTorch."""

import time

import torch
from serving import serve


def main() -> None:
    """Answers any line with operations and bytes a second."""
    gpu = torch.cuda.is_available()
    options = dict(device="cuda", dtype=torch.bfloat16) if gpu else {}
    side = 8192 if gpu else 2048
    a = torch.randn(side, side, **options)
    x = torch.randn(2**30 if gpu else 2**26, **options)
    y = torch.empty_like(x)

    def rate(function, work):
        function()
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(5):
            function()
        if gpu:
            torch.cuda.synchronize()
        return 5 * work / (time.perf_counter() - start)

    def answer(_):
        flops = rate(lambda: a @ a, 2 * side**3)
        return {"flops": flops, "bytes": rate(lambda: y.copy_(x), 2 * x.numel() * x.element_size())}

    serve(answer, {})


main()
