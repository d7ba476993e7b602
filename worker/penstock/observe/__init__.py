"""What a worker tells of itself: log lines, a live line, metrics, health, and spans."""
