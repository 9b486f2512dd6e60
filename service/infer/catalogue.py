"""The bundles that are installed, each checked against the checksum in its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from service import logs
from service.domain.finding import BundleIdentity
from service.domain.identity import device_uid
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.errors import Reason, UnusableStudy

_log = logs.get("catalogue")


class Catalogue:
    """The bundles of one models folder, by name; read once, never changed."""

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self._manifests = dict(sorted(manifests.items()))

    @classmethod
    def load(cls, models_dir: Path) -> Catalogue:
        """Read every `models_dir/<bundle>/manifest.toml` and check the sha256 of its model.onnx.

        A folder without a manifest is not a bundle. Raises: InvalidManifest, naming the file, when a manifest cannot be
        used, model.onnx is absent, or its checksum differs.
        """
        if not models_dir.is_dir():
            raise InvalidManifest(f"{models_dir}: the folder of the bundles does not exist")
        manifests = {}
        for path in sorted(models_dir.glob("*/manifest.toml")):
            manifest = read_manifest(path.parent)
            _verify(manifest)
            manifests[manifest.name] = manifest
            _log.info("bundle", extra={"bundle": manifest.name, "version": manifest.version, "sha256": manifest.sha256})
        return cls(manifests)

    def get(self, name: str) -> Manifest:
        """Return the manifest of a bundle. Raises: UnusableStudy(NO_MODEL) when it is not installed."""
        try:
            return self._manifests[name]
        except KeyError:
            installed = ", ".join(self._manifests) or "none"
            raise UnusableStudy(Reason.NO_MODEL, f"bundle {name!r} is not installed; installed: {installed}") from None

    def __contains__(self, name: str) -> bool:
        """Tell whether a bundle is installed."""
        return name in self._manifests

    def __iter__(self) -> Iterator[Manifest]:
        """Yield the manifests in order of name."""
        return iter(self._manifests.values())

    def __len__(self) -> int:
        """Return how many bundles are installed."""
        return len(self._manifests)


def identity(manifest: Manifest) -> BundleIdentity:
    """Return who speaks when this bundle speaks; other weights are another device."""
    return BundleIdentity(
        name=manifest.name, version=manifest.version, digest=manifest.sha256, title=manifest.title,
        device_uid=device_uid(manifest.sha256),
    )


def _verify(manifest: Manifest) -> None:
    try:
        with manifest.model_path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidManifest(f"{manifest.model_path}: cannot be read ({error.strerror})") from error
    if found != manifest.sha256.lower():
        raise InvalidManifest(
            f"{manifest.model_path}: sha256 is {found}, the manifest says {manifest.sha256}; the file is damaged or "
            "belongs to another version")
