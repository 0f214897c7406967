"""Networks of fewer blocks and levels, for tests that need but one of each kind: they compile in half the time."""

from collections.abc import Callable

from segfusion_jax.models import efficientnet, unet

_B0 = efficientnet.plan("efficientnet_b0", width=0.25)
PLAN = _B0._replace(blocks=tuple(_B0.blocks[number] for number in (0, 1, 3, 4)))
"""Of B0 blocks of 3x3 and 5x5, of stride 1 and 2; the last has a residual that stochastic depth drops."""


def patch(set_attribute: Callable) -> None:
    """Leaves every EfficientNet that is made few blocks, and every U-Net two levels; by `monkeypatch.setattr`."""
    set_attribute(efficientnet, "plan", lambda *_, **__: PLAN)
    set_attribute(unet, "NUM_LEVELS", 2)
