"""A small EfficientNet's weight file with the names and the layout of lukemelas/EfficientNet-PyTorch."""

import numpy as np

QUARTER_WIDTH_HALF_DEPTH = (
    # channels in, channels out, expansion, kernel size; worked out by hand from the paper's table
    (8, 8, 1, 3),
    (8, 8, 6, 3),
    (8, 16, 6, 5),
    (16, 24, 6, 3),
    (24, 24, 6, 3),
    (24, 32, 6, 5),
    (32, 32, 6, 5),
    (32, 48, 6, 5),
    (48, 48, 6, 5),
    (48, 80, 6, 3),
)
STRIDED_BLOCKS = (1, 2, 3, 7)
STRIDED_BLOCKS_OF_B0 = (1, 3, 5, 11)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights of width 1/4 and depth 1/2, without a last layer."""
    rng = np.random.default_rng(seed)
    made = {}

    def conv(name, filters, channels, size=1):
        made[name + ".weight"] = rng.normal(size=(filters, channels, size, size)) * np.sqrt(2 / (channels * size**2))

    def norm(name, channels):
        made[name + ".weight"], made[name + ".running_var"] = rng.uniform(0.5, 1.5, (2, channels))
        made[name + ".bias"], made[name + ".running_mean"] = 0.3 * rng.normal(size=(2, channels))

    conv("_conv_stem", 8, 3, 3)
    norm("_bn0", 8)
    for index, (channels, filters, expansion, size) in enumerate(QUARTER_WIDTH_HALF_DEPTH):
        block, inner = f"_blocks.{index}.", channels * expansion
        if expansion > 1:
            conv(block + "_expand_conv", inner, channels)
            norm(block + "_bn0", inner)
        conv(block + "_depthwise_conv", inner, 1, size)
        norm(block + "_bn1", inner)
        for name, wide, narrow in (("_se_reduce", channels // 4, inner), ("_se_expand", inner, channels // 4)):
            conv(block + name, wide, narrow)
            made[f"{block}{name}.bias"] = 0.3 * rng.normal(size=wide)
        conv(block + "_project_conv", filters, inner)
        norm(block + "_bn2", filters)
    conv("_conv_head", 1280, 80)
    norm("_bn1", 1280)
    return {name: array.astype(np.float32) for name, array in made.items()}
