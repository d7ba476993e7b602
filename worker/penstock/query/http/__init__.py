"""The query worker over HTTP."""
