"""``python -m worker`` is ``penstock``."""

from penstock.commands.main import main

main()
