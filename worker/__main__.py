"""``python -m worker`` is ``penstock``."""

from worker.cli import main

main()
