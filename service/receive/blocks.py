"""Writing to the disk in whole blocks, past the page cache where the file system knows that, and making names durable."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

BLOCK_BYTES = 4096
_DIRECT: int = getattr(os, "O_DIRECT", 0)
_DURABLY: int = getattr(os, "RWF_DSYNC", 0)


def open_direct(path: str, flags: int = 0) -> tuple[int, bool]:
    """Open a file to write past the page cache; return its descriptor, and whether the file system knows that.

    Raises: OSError.
    """
    flags |= os.O_RDWR | os.O_CLOEXEC
    if _DIRECT:
        try:
            return os.open(path, flags | _DIRECT, 0o666), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            flags &= ~os.O_EXCL  # it may have been made
    return os.open(path, flags, 0o666), False


def go_direct(descriptor: int) -> bool:
    """Have an open file written past the page cache from now on; False where the file system does not know that."""
    if not _DIRECT:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, _DIRECT)
    except OSError:
        return False
    return True


def go_cached(descriptor: int) -> None:
    """Have an open file written through the page cache from now on.  Raises: OSError."""
    fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)


def write_all(descriptor: int, data: memoryview, offset: int, direct: bool, durably: bool = False) -> bool:
    """Write all of the data, `direct` past the page cache; return whether it still goes that way.

    A file system with other blocks than ours takes none of ours past the page cache; then they go through it.
    durably: when this returns they survive a power cut, if the file had these blocks before.
    Raises: OSError.
    """
    flags = _DURABLY if durably else 0
    while data:
        try:
            done = os.pwritev(descriptor, [data], offset, flags)
        except OSError as error:
            if error.errno != errno.EINVAL or not direct:
                raise
            go_cached(descriptor)
            direct = False
            continue
        data, offset = data[done:], offset + done
    if durably and not _DURABLY:
        os.fsync(descriptor)
    return direct


def remove(path: str) -> None:
    """Remove a file that may be gone already.  Raises: OSError."""
    try:
        os.unlink(path)  # noqa: PTH108 - one call for each image; paths cost more
    except FileNotFoundError:
        return


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable.  Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int) -> None:
    """Make durable what was written to the file system of a descriptor.  Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(descriptor):
        raise OSError(ctypes.get_errno(), "syncfs")
