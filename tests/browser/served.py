"""Serve an application on a free port of 127.0.0.1 for the length of a test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

_DEADLINE_S = 20.0


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Yield the address (http://127.0.0.1:port) of a running server; stop it when the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + _DEADLINE_S
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the server did not start"
        thread.join(timeout=0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=_DEADLINE_S)
        listener.close()


@contextmanager
def asked(app: FastAPI) -> Iterator[httpx.Client]:
    """Yield an HTTP client of a running server."""
    with served(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=_DEADLINE_S) as client:
        yield client
