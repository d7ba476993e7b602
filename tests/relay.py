"""A way between a client and a server, of which every connection of the moment may become a black hole."""

import socket
import threading
from contextlib import suppress

BYTES = 1 << 16


class Relay:
    """Listens on a port of its own and passes on to another."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._hole = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on nothing passes on the connections that there are, and nobody is told."""
        self._hole.set()
        self._hole = threading.Event()

    def close(self) -> None:
        """End all connections."""
        for end in (self._listening, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                self.connections += 1
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(*pair, self._hole), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, hole: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(BYTES):
                if not hole.is_set():
                    target.sendall(data)
