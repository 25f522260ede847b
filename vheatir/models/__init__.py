"""BasicSR models: the training iteration."""
