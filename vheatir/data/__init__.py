"""Training data: BasicSR dataset, sample order, and crops generated on the device."""
