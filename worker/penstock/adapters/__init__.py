"""One module per outside system, the only importer of its library."""
