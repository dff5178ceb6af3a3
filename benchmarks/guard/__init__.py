"""What the input guard finds: the texts, the measurement, the picture."""
