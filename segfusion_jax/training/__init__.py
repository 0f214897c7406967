"""State, losses, steps, the loop and its checkpoints."""
