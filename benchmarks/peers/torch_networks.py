"""A network of PyTorch, timed: EfficientNet-B0 of timm, or the paper's U-Net. Runs in an environment with torch."""

import argparse

import torch
from serving import serve
from torch import nn
from torch.nn import functional

# Beside the plain CPU torch, torchvision, which timm imports, lacks its compiled operators and fails where it describes
# these two, which no network here calls: declared, it imports.
try:
    import torchvision  # noqa: F401
except RuntimeError:
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm


class DoubleConv(nn.Sequential):
    def __init__(self, channels, filters):
        layers = []
        for inputs in (channels, filters):
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, filters=16, dropout=0.1):
        super().__init__()
        widths = [filters * 2**level for level in range(5)]
        self.down = nn.ModuleList(DoubleConv(c, f) for c, f in zip([3, *widths], widths[:-1]))
        self.bottom = DoubleConv(widths[-2], widths[-1])
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(2 * f, f, 3, 2, padding=1, output_padding=1) for f in widths[-2::-1]
        )
        self.up = nn.ModuleList(DoubleConv(2 * f, f) for f in widths[-2::-1])
        self.head = nn.Conv2d(filters, 1, 1)
        self.dropout = dropout

    def forward(self, x):
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = functional.dropout(functional.max_pool2d(skips[-1], 2), self.dropout, self.training)
        x = self.bottom(x)
        for upsample, block, skip in zip(self.upsample, self.up, reversed(skips)):
            x = block(functional.dropout(torch.cat([upsample(x), skip], 1), self.dropout, self.training))
        return self.head(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=("efficientnet_b0", "unet"))
    parser.add_argument("--mode", choices=("train", "predict"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.backends.cudnn.benchmark = True
    if args.network == "unet":
        model, shape = UNet(), (args.batch, 1, *args.size)
    else:
        model, shape = (
            timm.create_model(args.network, num_classes=1, drop_rate=0.1, drop_path_rate=0.2),
            (args.batch, 1),
        )
    model = model.to(device, memory_format=torch.channels_last).train(args.mode == "train")
    images = torch.rand(args.batch, 3, *args.size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, shape, device=device).float()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    forward = torch.compile(model, mode="max-autotune" if args.mode == "predict" else None) if args.compile else model

    def train_step():
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            loss = functional.binary_cross_entropy_with_logits(forward(images), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def predict_step():
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            return forward(images)

    step = train_step if args.mode == "train" else predict_step

    def run(steps):
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()

    serve(run, {"version": f"torch {torch.__version__}, timm {timm.__version__}"})


main()
