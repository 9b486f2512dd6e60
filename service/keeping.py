"""From the settings to where images and results lie."""

from __future__ import annotations

from service.settings import Settings
from service.store.files import Bucket, Files, Folder


def files_of(settings: Settings, name: str) -> Files:
    """Return the files of "spool" or "results"; the folder is made.  Raises: Unavailable for a bucket that is no good."""
    store = settings.store
    root = store.data_dir.resolve() / name
    root.mkdir(parents=True, exist_ok=True)
    return Bucket(f"{store.bucket.rstrip('/')}/{name}", root, store.bucket_endpoint) if store.bucket else Folder(root)
