"""``python -m penstock`` is ``penstock``."""

from penstock.commands.main import main

main()
