"""EfficientNet-B0 of timm, or the paper's U-Net, in PyTorch: channels_last, bfloat16 by autocast on a GPU."""

import torch
from steps import arguments, serve_steps
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

import timm  # noqa: E402


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels, filters):
        layers = []
        for inputs in (channels, filters):
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """The paper's, as segfusion_jax.UNet."""

    def __init__(self, filters=16, dropout=0.1):
        super().__init__()
        widths = [filters * 2**level for level in range(5)]
        self.down = nn.ModuleList(DoubleConv(c, f) for c, f in zip([3, *widths[:3]], widths[:4], strict=True))
        self.bottom = DoubleConv(widths[3], widths[4])
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(2 * f, f, 3, 2, padding=1, output_padding=1) for f in widths[3::-1]
        )
        self.up = nn.ModuleList(DoubleConv(2 * f, f) for f in widths[3::-1])
        self.head = nn.Conv2d(filters, 1, 1)
        self.dropout = dropout

    def forward(self, x):
        """Maps [batch, 3, height, width] to [batch, 1, height, width] logits."""
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = functional.dropout(functional.max_pool2d(skips[-1], 2), self.dropout, self.training)
        x = self.bottom(x)
        for upsample, block, skip in zip(self.upsample, self.up, reversed(skips), strict=True):
            x = block(functional.dropout(torch.cat([upsample(x), skip], 1), self.dropout, self.training))
        return self.head(x)


def main() -> None:
    """Builds the network and serves its steps."""
    args = arguments()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.backends.cudnn.benchmark = True
    if args.network == "unet":
        model, outputs = UNet(), (args.batch, 1, *args.size)
    else:
        model = timm.create_model(args.network, num_classes=1, drop_rate=0.1, drop_path_rate=0.2)
        outputs = (args.batch, 1)
    model = model.to(device, memory_format=torch.channels_last).train(args.mode == "train")
    images = torch.rand(args.batch, 3, *args.size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, outputs, device=device).float()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    forward = torch.compile(model) if args.compile else model

    def train():
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            loss = functional.binary_cross_entropy_with_logits(forward(images), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def predict():
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            forward(images)

    def run(steps):
        for _ in range(steps):
            train() if args.mode == "train" else predict()
        if gpu:
            torch.cuda.synchronize()

    about = {"version": f"torch {torch.__version__}, timm {timm.__version__}"}
    serve_steps(run, about, lambda: torch.cuda.max_memory_allocated() if gpu else None)


main()
