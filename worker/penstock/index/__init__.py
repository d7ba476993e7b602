"""The index worker: what its stages do with a batch, and the decisions they take."""
