"""Texts that are written as HTML or Markdown, read. The only importer of what parses them."""
