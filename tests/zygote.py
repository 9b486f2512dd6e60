"""A process that has everything imported and forks a service when asked, so that a test can start one a hundred times.

Reads lines from standard input: "start SETTINGS" forks `firstlook serve --settings SETTINGS` and answers with its process
id; "wait PID" answers once that process has ended. Ends, and takes what still runs with it, when its input is closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from service import cli


def main() -> None:
    """Serve until the input is closed."""
    running: set[int] = set()
    for line in sys.stdin:
        word, argument = line.split(maxsplit=1)
        if word == "start":
            running.add(answer := _start(argument.strip()))
        else:
            answer = int(argument)
            os.waitpid(answer, 0)
            running.discard(answer)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for process in running:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _start(settings: str) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        code = cli.main(["serve", "--settings", settings])
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
