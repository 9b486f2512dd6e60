"""Where images and results lie: in a folder that every machine sees, or in a bucket, with a folder of copies on each."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from service import logs
from service.errors import Reason, Unavailable

_AT_ONCE = 16
_COPY = ".copy"
_log = logs.get("store.files")


class Files(Protocol):
    """Files by a path of ours, "ab/abcd.dcm". Safe to call from several threads and processes."""

    @property
    def root(self) -> Path:
        """The folder on this machine."""

    def __truediv__(self, path: str) -> Path:
        """Return a file on this machine, brought here first where it is elsewhere; what is nowhere is not there.

        Raises: Unavailable when it cannot be asked for.
        """

    def bring(self, paths: Iterable[str]) -> None:
        """Bring several files here at once.  Raises: Unavailable."""

    def keep(self, path: str) -> None:
        """Make a file that is whole and durable in the folder last for all machines.  Raises: Unavailable."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there.  Raises: Unavailable, OSError."""

    def move(self, path: str, to: str) -> None:
        """Rename a file that is in the folder.  Raises: Unavailable, OSError."""

    def forget(self, older_than_s: float) -> int:
        """Delete copies that were made so long ago; return how many."""


class Folder:
    """Files in one folder, which all machines share where there are several."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __truediv__(self, path: str) -> Path:
        return self.root / path

    def bring(self, paths: Iterable[str]) -> None:
        """Do nothing: they are here."""

    def keep(self, path: str) -> None:
        """Do nothing: it is kept."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        (self.root / path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        """Rename a file."""
        (self.root / path).rename(self.root / to)

    def forget(self, older_than_s: float) -> int:
        """Do nothing: these are no copies."""
        return 0


class Below:
    """Files of others that lie in a folder of theirs. folder: its name, without a slash."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._folder = files, folder

    @property
    def root(self) -> Path:
        """The folder on this machine."""
        return self._files.root / self._folder

    def __truediv__(self, path: str) -> Path:
        return self._files / f"{self._folder}/{path}"

    def bring(self, paths: Iterable[str]) -> None:
        """Bring several files here at once.  Raises: Unavailable."""
        self._files.bring(f"{self._folder}/{path}" for path in paths)

    def keep(self, path: str) -> None:
        """Make a file last for all machines.  Raises: Unavailable."""
        self._files.keep(f"{self._folder}/{path}")

    def remove(self, path: str) -> None:
        """Remove a file, if it is there.  Raises: Unavailable, OSError."""
        self._files.remove(f"{self._folder}/{path}")

    def move(self, path: str, to: str) -> None:
        """Rename a file that is in the folder.  Raises: Unavailable, OSError."""
        self._files.move(f"{self._folder}/{path}", f"{self._folder}/{to}")

    def forget(self, older_than_s: float) -> int:
        """Do nothing: those whose folder it is forget them."""
        return 0


class Bucket:
    """Files under a URL of fsspec, and copies of them in a folder of this machine.

    url: "s3://BUCKET/PREFIX"; endpoint: of the S3 server, "" for that of the environment (AWS_ENDPOINT_URL) or Amazon's.
    Who may use it is told by the environment as every S3 client reads it.
    Raises: Unavailable when the URL is none that can be used here.
    """

    def __init__(self, url: str, root: Path, endpoint: str = "") -> None:
        self.root, self._url = root, url
        self._fs, self._prefix, self._errors = _opened(url, endpoint)

    def __truediv__(self, path: str) -> Path:
        file = self.root / path
        if not file.exists():
            self._fetch(path, file)
        return file

    def bring(self, paths: Iterable[str]) -> None:
        """Fetch those that are not here, several at once.  Raises: Unavailable."""
        missing = [path for path in dict.fromkeys(paths) if not (self.root / path).exists()]
        if missing:
            with ThreadPoolExecutor(min(_AT_ONCE, len(missing)), "fetch") as pool:
                list(pool.map(lambda path: self / path, missing))

    def keep(self, path: str) -> None:
        """Put a file into the bucket; when this returns it is there.  Raises: Unavailable."""
        try:
            self._fs.put_file(str(self.root / path), self._of(path))
        except self._errors as error:
            raise self._unavailable("put", error) from error

    def remove(self, path: str) -> None:
        """Remove a file from the bucket and from here.  Raises: Unavailable."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._of(path))
        except self._errors as error:
            raise self._unavailable("removed", error) from error
        (self.root / path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        """Rename a file of the folder, and put it into the bucket by its new name.  Raises: Unavailable, OSError."""
        (self / path).rename(self.root / to)
        self.keep(to)
        self.remove(path)

    def forget(self, older_than_s: float) -> int:
        """Delete copies that were made so long ago; they are fetched again when they are needed."""
        before, gone = time.time() - older_than_s, 0  # the file system's clock, not the service's
        for file in (*self.root.glob("[0-9a-f][0-9a-f]/*.dcm"), *self.root.glob(f"[0-9a-f][0-9a-f]/*{_COPY}")):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    file.unlink()
                    gone += 1
        return gone

    def _fetch(self, path: str, file: Path) -> None:
        """Bring a file here whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{secrets.token_hex(4)}{_COPY}")
        try:
            self._fs.get_file(self._of(path), str(part))
            part.replace(file)
        except FileNotFoundError:
            pass
        except self._errors as error:
            raise self._unavailable("fetched", error) from error
        finally:
            part.unlink(missing_ok=True)

    def _of(self, path: str) -> str:
        return f"{self._prefix}/{path}"

    def _unavailable(self, what: str, error: Exception) -> Unavailable:
        _log.error("the bucket does not answer as it should", extra={"error": type(error).__name__})
        return Unavailable(Reason.INTERNAL_ERROR, f"a file could not be {what}: {self._url} ({type(error).__name__})")


def _opened(url: str, endpoint: str) -> tuple[Any, str, tuple[type[Exception], ...]]:
    """Return the file system of a URL, the path in it, and what it raises.  Raises: Unavailable."""
    options: dict[str, Any] = {"use_listings_cache": False}
    errors: tuple[type[Exception], ...] = (OSError,)
    try:
        if url.startswith("s3://"):
            errors = (*errors, import_module("botocore.exceptions").BotoCoreError)
            options |= {"client_kwargs": {"endpoint_url": endpoint}} if endpoint else {}
        system, prefix = import_module("fsspec.core").url_to_fs(url, **options)
    except ImportError as error:
        raise Unavailable(Reason.INTERNAL_ERROR, f"store.bucket is {url}, but {error.name} is not installed; install the s3 "
                          "extra") from error
    except ValueError as error:
        raise Unavailable(Reason.INTERNAL_ERROR, f"store.bucket {url} cannot be used ({type(error).__name__}); accepted: "
                          "s3://BUCKET/PREFIX") from error
    return system, prefix.rstrip("/"), errors
