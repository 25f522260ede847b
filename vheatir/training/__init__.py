"""Training: option files, training loop, resuming, distributed processes, validation."""
