"""Training data: sources of clean images, sample order, data set, crops made on the device."""
