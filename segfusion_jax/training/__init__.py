"""State, losses, optimiser, pure steps, the loop, its checkpoints and its log of metrics.

It imports `models`, `input` and all below.
"""
