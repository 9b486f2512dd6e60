"""A decoding process whose decoder does what a codestream says: die, hang, grow, reach out. Others it decodes."""

from __future__ import annotations

import ctypes
import errno
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from service.errors import Reason, UnusableStudy
from service.prepare.codestream import Frame, FrameShape, decode_frame
from service.prepare.decoder_process import main


def _die() -> None:
    ctypes.string_at(0)


def _spin() -> None:
    while True:
        pass


def _grow() -> None:
    held = []
    while True:
        held.append(bytearray(2**24))


def _open_file() -> None:
    Path("/etc/passwd").read_bytes()


def _open_socket() -> None:
    socket.socket().close()


DEEDS: dict[bytes, Callable[[], object]] = {
    b"DIE ": _die, b"SPIN": _spin, b"STOP": signal.pause, b"GROW": _grow, b"FILE": _open_file, b"SOCK": _open_socket}


def decode(codestream: bytes, transfer_syntax_uid: str, expected: FrameShape) -> Frame:
    """Do the deed that the codestream begins with, anywhere; else decode it."""
    for word, deed in DEEDS.items():
        if word in codestream[:64]:
            try:
                deed()
            except OSError as error:
                raise UnusableStudy(Reason.UNREADABLE_PIXELS, errno.errorcode[error.errno or 0]) from error
    return decode_frame(codestream, transfer_syntax_uid, expected)


if __name__ == "__main__":
    main(decode)
