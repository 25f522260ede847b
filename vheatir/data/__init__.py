"""Training data: BasicSR datasets, the order of samples, and crops made on the device."""
