"""The demo's corpus, and what is measured on it."""
