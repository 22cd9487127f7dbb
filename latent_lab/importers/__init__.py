"""Published weights to native checkpoints."""
