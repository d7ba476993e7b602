"""What an operator does beside running workers: set up, probe, size, measure."""
