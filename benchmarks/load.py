"""Closed-loop load on a query worker, in a process of its own: python benchmarks/load.py PORT CLIENTS SECONDS < bodies

Each client sends a request as soon as it has the answer to its last one, over one connection. Reads bodies as JSON
lines, prints one JSON object: requests, seconds, milliseconds of each, and the worker's own time per step.
"""

import asyncio
import json
import sys
import time
from itertools import cycle
from typing import Any


async def client(port: int, bodies: Any, until: float, times: dict[str, list[float]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        body = next(bodies)
        started = time.perf_counter()
        writer.write(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = json.loads(await reader.readexactly(int(length.split(b":")[1])))
        times["all"].append((time.perf_counter() - started) * 1000)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer)
        for step, took in answer["timings_ms"].items():
            times.setdefault(step, []).append(took)
        times["reranked"].append(float(answer["reranked"]))
    writer.close()


async def main(port: int, clients: int, seconds: float) -> None:
    bodies = cycle([line.strip() for line in sys.stdin.buffer])
    times: dict[str, list[float]] = {"all": [], "reranked": []}
    started = time.monotonic()
    await asyncio.gather(*(client(port, bodies, started + seconds, times) for _ in range(clients)))
    print(json.dumps({"seconds": time.monotonic() - started, "found": times}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
