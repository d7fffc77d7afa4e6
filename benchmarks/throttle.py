"""A link of a given speed: a TCP proxy, `python -m benchmarks.throttle PORT MEGABYTES_PER_SECOND`.

What the server sends passes through a pipe of the kernel and never through Python, so the proxy itself takes little of
the processors that it shares with what is measured.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
import time
from contextlib import suppress

HOST = "127.0.0.1"
_PIECE = 1 << 18
_BUFFER = 4 << 20


class TokenBucket:
    """Lets bytes pass at a rate, for all connections together.

    Args:
        rate: Bytes per second.
        burst: Seconds of unused rate that are kept, for when it must wait for a processor; a real link does not.
    """

    def __init__(self, rate: float, burst: float = 0.1) -> None:
        self._rate, self._burst = rate, burst
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Wait until `size` more bytes may have passed."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - self._burst) + size / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


def serve(target: int, rate: float) -> None:
    """Proxy to a port of this machine until the process is ended.

    Args:
        target: The server's port.
        rate: Bytes per second that may go to clients.
    """
    bucket = TokenBucket(rate)
    listener = socket.create_server((HOST, 0), backlog=128)
    sys.stdout.write(f"link ready at {HOST}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((HOST, target))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        threading.Thread(target=_upstream, args=(client, server), daemon=True).start()
        threading.Thread(target=_downstream, args=(server, client, bucket), daemon=True).start()


def _upstream(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(1 << 16):
            server.sendall(data)
    with suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def _downstream(server: socket.socket, client: socket.socket, bucket: TokenBucket) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIECE)
    with server, client, suppress(OSError):
        while size := os.splice(server.fileno(), write, _PIECE):
            bucket.take(size)
            while size:
                size -= os.splice(read, client.fileno(), size)
        client.shutdown(socket.SHUT_WR)
    os.close(read)
    os.close(write)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]) * 1e6)
