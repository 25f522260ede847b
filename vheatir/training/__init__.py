"""Training: option files, the loop, resume, several processes, validation."""
