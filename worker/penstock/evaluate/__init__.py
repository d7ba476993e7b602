"""How good a search is, on queries whose answers are known."""
