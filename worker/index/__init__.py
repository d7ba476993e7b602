"""The index worker: its loop, the overlap of its stages, and the decisions they take."""
