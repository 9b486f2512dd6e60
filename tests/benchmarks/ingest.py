"""How fast images are received, beside DCMTK's storescp in the same run: python -m tests.benchmarks.ingest [--quick]

Every row is a ratio of times, storescp over this service, of rounds that follow each other: above 1 the service is
faster. storescp keeps what it gets without fsync; the service has each image safe in a ready file, or in its own file with
its name, before it answers. It is given the time to make its files ready, as it has between the studies of a day.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests import builders
from tests.benchmarks.limits import cpu_seconds, plain_loop, slot_loop, system_calls
from tests.hostile.test_receive import associate_request
from tests.peers import HOST, free_port

STORESCP, STORESCU = "/usr/bin/storescp", "/usr/bin/storescu"
NAGLE_OFF = {"TCP_NODELAY": "1"}
IDLE_ASSOCIATIONS = 20
ECHO = bytes.fromhex(  # P-DATA-TF of a C-ECHO-RQ on context 1 (PS3.7 9.3.5)
    "0400 0000004a 00000046 01 03 0000 0000 04000000 38000000 0000 0200 12000000"
    + (b"1.2.840.10008.1.1\0").hex() + "0000 0001 02000000 3000 0000 1001 02000000 0100 0000 0008 02000000 0101")
RELEASE = struct.pack(">BBLL", 5, 0, 4, 0)
tell = partial(print, flush=True)
TARGETS = {"a": 25.0, "b": 0.75, "c": 0.85, "d": 0.85}


@dataclass(frozen=True)
class Sizes:
    """How much is sent: CT slices, small objects, rounds, and for how long the idle cost is watched (seconds)."""

    slices: int = 300
    small: int = 2000
    rounds: int = 3
    slow_slices: int = 300
    echoes: int = 100
    idle_s: float = 10.0


QUICK = Sizes(slices=12, small=24, rounds=1, slow_slices=4, echoes=5, idle_s=1.0)


def make_objects(folder: Path, count: int, size: int) -> Path:
    """Write CT slices, size x size, with noise; each has a SOP Instance UID of its own."""
    folder.mkdir()
    random = np.random.default_rng(1)
    made = builders.ct_series(slices=8, size=size)
    plain = [np.frombuffer(ds.PixelData, np.uint16) for ds in made]
    for number in range(count):
        ds = made[number % len(made)]
        noise = random.integers(0, 60, plain[0].size, dtype=np.uint16)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = builders.uid(size, 1, 1, number + 1)
        ds.PixelData = (plain[number % len(made)] + noise).tobytes()
        ds.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)
    return folder


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a program listens."""
    for _ in range(1200):
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}")


@contextmanager
def running(command: Sequence[str | Path], port: int, environment: dict[str, str],
            log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that listens; end it afterwards."""
    plain = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    with log.open("ab") as told:
        process = subprocess.Popen([*map(str, command)], env=plain | environment, stdout=told, stderr=told)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def storescp(folder: Path, environment: dict[str, str], fork: bool = False) -> Iterator[tuple[int, int]]:
    """Run DCMTK's storescp on an empty folder; yield (port, process id)."""
    port, kept = free_port(), Path(tempfile.mkdtemp(prefix="storescp-", dir=folder))
    command = [STORESCP, "-pdu", "131072", *(["--fork"] if fork else []), "-od", kept, str(port)]
    with running(command, port, environment, folder / "storescp.log") as process:
        yield port, process.pid


@contextmanager
def service(folder: Path, fast_path: bool = True) -> Iterator[tuple[int, int]]:
    """Run our listener, a process of its own, on an empty folder; yield (port, process id)."""
    port, kept = free_port(), Path(tempfile.mkdtemp(prefix="service-", dir=folder))
    settings = folder / "settings.toml"
    settings.write_text(
        f'log_level = "WARNING"\n[receive]\nport = {port}\nany_calling_ae = true\nmin_free_bytes = 0\n'
        f'fast_path = {str(fast_path).lower()}\n[store]\ndata_dir = "{kept}"\n')
    command = [sys.executable, "-m", "service.cli", "listen", "--settings", settings]
    with running(command, port, {}, folder / "service.log") as process:
        made = -1
        while made < (now := sum(1 for _ in (kept / "spool" / "ready").glob("*/*"))):
            made = now
            time.sleep(0.5)
        yield port, process.pid


def send(files: Path, port: int, environment: dict[str, str], senders: int = 1, only: int | None = None) -> float:
    """Send a folder with as many storescu as wanted, an even share each; return the seconds until all have ended."""
    paths = sorted(files.iterdir())[:only]
    plain = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    commands = [[STORESCU, "-R", "-pdu", "131072", "-aec", "FIRSTLOOK", HOST, str(port), *map(str, paths[n::senders])]
                for n in range(senders)]
    os.sync()  # what the last run has left to the disk is not to be waited for by this one
    began = time.perf_counter()
    processes = [subprocess.Popen(c, env=plain | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                 for c in commands]
    for process in processes:
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(f"storescu failed: {told.decode()[-300:]}")
    return time.perf_counter() - began


@dataclass(frozen=True)
class Comparison:
    """One row: what is sent, and how."""

    row: str
    told: str
    files: Path
    environment: dict[str, str]
    senders: int = 1
    only: int | None = None


def compare(row: Comparison, folder: Path, rounds: int) -> list[tuple[float, float]]:
    """Return (seconds of storescp, seconds of the service) of each round; the order changes from round to round."""
    found = []
    for number in range(rounds):
        times: dict[str, float] = {}
        runs: list[tuple[str, Callable[[], float]]] = [
            ("storescp", lambda: once(storescp(folder, row.environment, row.senders > 1), row)),
            ("service", lambda: once(service(folder), row))]
        for name, run in runs if number % 2 == 0 else reversed(runs):
            times[name] = run()
        found.append((times["storescp"], times["service"]))
    return found


def once(receiver: AbstractContextManager[tuple[int, int]], row: Comparison) -> float:
    """Send one row's files to a receiver that is started for it."""
    with receiver as (port, _):
        return send(row.files, port, row.environment, row.senders, row.only)


def show(row: Comparison, times: list[tuple[float, float]], count: int, size_bytes: int) -> None:
    """Print one row of the table."""
    ratios = [theirs / ours for theirs, ours in times]
    ours, theirs = statistics.median(t[1] for t in times), statistics.median(t[0] for t in times)
    tell(f"({row.row}) {row.told:<52} {count / theirs:6.0f} {count / ours:6.0f} /s {size_bytes / ours / 1e6:5.0f} MB/s  "
          f"{statistics.median(ratios):6.2f} [{min(ratios):.2f}-{max(ratios):.2f}]  target {TARGETS[row.row]}")


def answer(connection: socket.socket) -> int:
    """Read one PDU and return its type."""
    header = exactly(connection, 6)
    exactly(connection, int.from_bytes(header[2:], "big"))
    return header[0]


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read that many bytes."""
    got = b""
    while len(got) < size:
        piece = connection.recv(size - len(got))
        if not piece:
            raise SystemExit("the receiver closed the connection")
        got += piece
    return got


def associate(port: int) -> tuple[socket.socket, float]:
    """Open an association by hand, one context; return the connection and the seconds that it took."""
    began = time.perf_counter()
    connection = socket.create_connection((HOST, port), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(associate_request())
    if answer(connection) != 2:
        raise SystemExit("the association was not accepted")
    return connection, time.perf_counter() - began


def latency(port: int, echoes: int) -> tuple[float, float]:
    """Return the medians of association set-up and of C-ECHO, milliseconds."""
    setups = []
    for _ in range(20):
        connection, took = associate(port)
        setups.append(took)
        connection.sendall(RELEASE)
        answer(connection)
        connection.close()
    connection, _ = associate(port)
    trips = []
    for _ in range(echoes):
        began = time.perf_counter()
        connection.sendall(ECHO)
        answer(connection)
        trips.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(setups) * 1000, statistics.median(trips) * 1000


def idle_share(port: int, process_id: int, seconds: float) -> float:
    """Return the share of a core, percent, that open and silent associations cost."""
    connections = [associate(port)[0] for _ in range(IDLE_ASSOCIATIONS)]
    before = cpu_seconds(process_id)
    time.sleep(seconds)
    used = cpu_seconds(process_id) - before
    for connection in connections:
        connection.close()
    return 100 * used / seconds


def cost(files: Path, folder: Path, count: int, what: str) -> None:
    """Print what one instance costs the service in processor time and system calls, and what the bare disk takes."""
    with service(folder) as (port, process_id):
        before = cpu_seconds(process_id)
        send(files, port, NAGLE_OFF, only=count)
        used_ms = 1000 * (cpu_seconds(process_id) - before) / count
    with service(folder) as (port, process_id):
        calls = system_calls(process_id, folder, lambda: send(files, port, NAGLE_OFF, only=count))
    often = sorted((c for c in calls.items() if c[1] >= count / 2), key=lambda c: -c[1])
    tell(f"{what}: {used_ms:.2f} ms of processor time an instance; system calls: "
         + ", ".join(f"{name} {number / count:.1f}" for name, number in often))
    for told, loop in (("write, fsync, rename, fsync of the folder", plain_loop), ("over blocks that are there", slot_loop)):
        took = loop(sorted(files.iterdir())[:count], folder)
        tell(f"{what}: the disk alone ({told}) {1000 * took / count:.2f} ms, {count / took:.0f} /s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few objects, one round: only to see that it runs")
    parser.add_argument("--rows", default="abcd", help="which rows (default: abcd)")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="ingest-") as made:
        folder = Path(made)
        slices = make_objects(folder / "slices", sizes.slices, 512)
        small = make_objects(folder / "small", sizes.small, 64)
        rows = [
            Comparison("a", f"as installed, 1 association, {sizes.slow_slices} CT slices", slices, {}, 1, sizes.slow_slices),
            Comparison("b", f"TCP_NODELAY, 1 association, {sizes.slices} CT slices", slices, NAGLE_OFF),
            Comparison("c", f"TCP_NODELAY, 4 associations, {sizes.slices} CT slices", slices, NAGLE_OFF, 4),
            Comparison("d", f"TCP_NODELAY, 1 association, {sizes.small} small objects", small, NAGLE_OFF)]
        tell(f"{sizes.rounds} rounds; storescp /s, service /s, service MB/s, ratio: median [least-most]")
        for row in rows:
            if row.row in asked.rows:
                sent = sorted(row.files.iterdir())[:row.only]
                show(row, compare(row, folder, sizes.rounds), len(sent), sum(p.stat().st_size for p in sent))
        with service(folder) as (port, process_id):
            setup_ms, echo_ms = latency(port, sizes.echoes)
            idle = idle_share(port, process_id, sizes.idle_s)
        tell(f"association set-up {setup_ms:.2f} ms (target < 5), C-ECHO {echo_ms:.2f} ms (target < 1.5), "
             f"{IDLE_ASSOCIATIONS} idle associations {idle:.1f} % of a core (target < 3)")
        cost(slices, folder, sizes.slices, "CT slices")
        cost(small, folder, sizes.small, "small objects")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
