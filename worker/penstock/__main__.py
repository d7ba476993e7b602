"""``python -m penstock`` is ``penstock``."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the rest loads: half a module is nothing to tell of

from penstock.commands.main import main  # noqa: E402

if __name__ == "__main__":
    main()
