"""Plain values, failures and ports: what everything else is about. Imports nothing else of ours."""
