"""What wraps a network's names in a weight file is taken off, once, whatever the container.

    {"epoch": 3, "state_dict": {"model.conv_stem.weight": ...}}    Lightning
    {"model_state_dict": {...}, "optimizer_state_dict": {...}}     PyTorch's tutorial
    {"module._orig_mod.conv_stem.weight": ...}                     DataParallel around torch.compile
    {"state_dict": {...}, "state_dict_ema": {...}}                 timm, with averaged weights

Readers of containers join the keys of nested dicts by dots. A network is where its stem is: all names before which the
same stands, and nothing of what stands beside it (optimizers, losses, decoders of others).
"""

import logging
import re

from segfusion_jax.models.weight_names import Arrays

_log = logging.getLogger(__name__)

_STEM = re.compile(
    r"(?P<prefix>(?:.*[./])?)"
    r"(?:_conv_stem\.weight|conv_stem\.weight|features\.0\.0\.weight|(?:stem_)?conv/(?:kernel|0)|stem\.conv\.kernel)",
    re.IGNORECASE,
)
_WITHIN = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_OPTIMIZER = re.compile(r"optim|(^|[._/])opt_state|current_model_state", re.IGNORECASE)
_AVERAGED = re.compile(r"(^|[^a-z])ema([^a-z]|$)", re.IGNORECASE)


def unwrap(arrays: Arrays) -> Arrays:
    """Returns the arrays of the one network in a file, by the names that its publisher gave them.

    Of weights and their moving averages the averages are taken, as timm does, and where Lightning keeps averages, they
    too. What stands beside the network is counted and named in the log. Where no stem is known, all is returned.

    >>> list(unwrap({"model.conv_stem.weight": 0, "model.bn1.bias": 1, "loss.weight": 2}))
    ['conv_stem.weight', 'bn1.bias']

    Raises:
      ValueError: several networks, or two arrays of one name; names them.
    """
    prefix = _prefix(list(arrays))
    prefixes = (prefix, re.sub(r"(^|\.)params\.$", r"\1batch_stats.", prefix))  # Flax' two collections
    inside: Arrays = {}
    beside = []
    for name, array in arrays.items():
        start = next((start for start in prefixes if name.startswith(start)), None)
        if start is None:
            beside.append(name)
        elif inside.setdefault(plain := _WITHIN.sub("", name.removeprefix(start)), array) is not array:
            raise ValueError(f"several arrays are called {plain}; save the weights of one network alone")
    if beside:
        _log.info(
            "the network is what is called %s...; beside it %d arrays are not read: %s",
            *(prefix, len(beside), ", ".join(beside[:5])),
        )
    return inside


def _prefix(names: list[str]) -> str:
    """Returns what stands before all names of the network."""
    found = {match["prefix"] for name in names if (match := _STEM.fullmatch(name))}
    outermost = {prefix for prefix in found if not any(prefix != other and prefix.startswith(other) for other in found)}
    trained = {prefix for prefix in outermost if not _OPTIMIZER.search(prefix)} or outermost
    averaged = {prefix for prefix in trained if _AVERAGED.search(prefix)}
    chosen = sorted(averaged or trained)
    if len(chosen) > 1:
        shown = ", ".join(prefix or "(no prefix)" for prefix in chosen)
        raise ValueError(f"it holds {len(chosen)} networks, {shown}; save the weights of one of them alone")
    return chosen[0] if chosen else ""
