"""BasicSR models: what happens in one training iteration."""
