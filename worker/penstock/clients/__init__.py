"""A worker's search in the frameworks of other people; each module needs its own extra."""
