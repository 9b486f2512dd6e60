"""Who a process is among all that share a database and a spool, and whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """Return the name of this process: host, process id, and when it began. Each machine needs a host name of its own."""
    return f"{socket.gethostname()}:{os.getpid()}:{began(os.getpid())}"


def is_dead(name: str) -> bool:
    """Tell whether a process is known to be gone; of a process of another host nobody here can tell: False."""
    host, pid, when = (*name.split(":"), "", "")[:3]
    return host == socket.gethostname() and not _lives(pid, when)


def began(pid: int) -> str:
    """Return when a process began, in ticks since boot (Linux); "" where the system does not tell."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return about.rpartition(")")[2].split()[19]


def _lives(pid: str, when: str) -> bool:
    """Tell whether a process still runs; another one with its number is another process."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return began(int(pid)) == when
