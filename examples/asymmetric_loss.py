"""A loss as `classifier.loss`: "examples.asymmetric_loss:asymmetric"."""

import jax
import jax.numpy as jnp


def asymmetric(logits: jax.Array, possible: jax.Array) -> jax.Array:
    """Returns the cross-entropy of the image's class, and of each other one, [batch], which counts the less, the less
    probable it is (after Ridnik et al., arXiv 2009.14119, with exponents 0 and 2).
    """
    inside = jax.nn.logsumexp(logits, axis=-1, where=possible, keepdims=True)
    outside = jax.nn.logsumexp(logits, axis=-1, where=~possible, keepdims=True)
    missed = jax.nn.softplus(outside - inside)[:, 0]  # -log of what the possible classes have together
    log_rest = jax.nn.log_softmax(logits, axis=-1)
    wrong = jnp.where(possible, 0.0, jnp.exp(log_rest))
    return missed + (-(wrong**2) * jnp.log1p(-jnp.minimum(wrong, 1 - 1e-6))).sum(-1)
