"""A file of the spool that was not there before: whole blocks of it go past the page cache, the broken last one through it.

Small files go through the page cache altogether, and so does everything on a file system that knows no direct writing. It is
durable when the file and its name in the folder are synced.
"""

from __future__ import annotations

import os

from service.receive.blocks import BLOCK_BYTES, go_cached, go_direct, remove, sync_folder, write_all


class PlainFile:
    """One file that an image is written to, made at the first write. One thread at a time; `settle` or `drop` must end it.

    temporary: its name while it is written; final: its name then; path: that, relative to the spool.
    """

    def __init__(self, temporary: str, final: str, path: str) -> None:
        self._temporary, self._final, self.path = temporary, final, path
        self.descriptor = -1
        self._direct = self._sealed = False

    def put(self, data: memoryview, offset: int) -> None:
        """Write whole blocks from a page on.  Raises: OSError."""
        self._open()
        self._direct = self._direct or go_direct(self.descriptor)
        self._write(data, offset)

    def put_rest(self, data: memoryview, size_bytes: int, offset: int) -> None:
        """Write the last of the image: so many bytes of the data.  Raises: OSError."""
        self._open()
        whole = size_bytes // BLOCK_BYTES * BLOCK_BYTES if self._direct else 0
        self._write(data[:whole], offset)
        if self._direct and size_bytes > whole:
            go_cached(self.descriptor)
            self._direct = False
        self._write(data[whole:size_bytes], offset + whole)

    def seal(self, first: memoryview, rest: memoryview, offset: int, size_bytes: int, received_at: float) -> None:
        """Write what is left of the image and make all of it durable under its final name.

        rest: what was not put, from `offset` to `size_bytes`.  Raises: OSError; then nothing has the final name.
        """
        self.put_rest(rest, max(0, size_bytes - offset), offset)
        try:
            os.fsync(self.descriptor)
            os.rename(self._temporary, self._final)  # noqa: PTH104 - one call for each image; paths cost more
            sync_folder(os.path.dirname(self._final))  # noqa: PTH120
        except OSError:
            remove(self._final)
            raise
        self._sealed = True

    def settle(self, last: memoryview, size_bytes: int) -> None:
        """Close the sealed file."""
        self.close()

    def drop(self) -> None:
        """Remove what was written."""
        if self.descriptor >= 0 and not self._sealed:
            remove(self._temporary)
        self.close()

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _open(self) -> None:
        if self.descriptor < 0:
            self.descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _write(self, data: memoryview, offset: int) -> None:
        self._direct = write_all(self.descriptor, data, offset, self._direct)
