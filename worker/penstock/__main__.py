"""``python -m penstock`` is ``penstock``."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the rest loads: half a module is nothing to tell of

from penstock.commands.main import main

if __name__ == "__main__":
    main()
