"""The bundles that are installed, each checked against the checksum in its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from service import logs
from service.domain.finding import BundleIdentity
from service.domain.identity import device_uid
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.variant import Variant
from service.errors import Reason, UnusableStudy

_log = logs.get("catalogue")


class Catalogue:
    """The bundles of one models folder, by name; each is read once, and what is put there later when it is asked for."""

    def __init__(self, manifests: Mapping[str, Manifest], models_dir: Path | None = None) -> None:
        self._manifests, self._models_dir = dict(sorted(manifests.items())), models_dir

    @classmethod
    def load(cls, models_dir: Path) -> Catalogue:
        """Read every `models_dir/<bundle>/manifest.toml` and check the sha256 of each of its ONNX files.

        A folder without a manifest is not a bundle. Raises: InvalidManifest, naming the file, when a manifest cannot be
        used, an ONNX file is absent, or its checksum differs.
        """
        if not models_dir.is_dir():
            raise InvalidManifest(f"{models_dir}: the folder of the bundles does not exist")
        manifests = {}
        for path in sorted(models_dir.glob("*/manifest.toml")):
            manifest = read_manifest(path.parent)
            for variant in manifest.variants:
                _verify(manifest, variant)
            manifests[manifest.name] = manifest
            _log.info("bundle", extra={"bundle": manifest.name, "version": manifest.version, "sha256": manifest.sha256})
        return cls(manifests, models_dir)

    def get(self, name: str) -> Manifest:
        """Return the manifest of a bundle. Raises: UnusableStudy(NO_MODEL) when it is not installed."""
        try:
            return self._manifests.get(name) or self._added(name)
        except KeyError:
            installed = ", ".join(self._manifests) or "none"
            raise UnusableStudy(Reason.NO_MODEL, f"bundle {name!r} is not installed; installed: {installed}") from None

    def _added(self, name: str) -> Manifest:
        """Read a bundle that was put into the folder since.  Raises: KeyError when there is none; InvalidManifest."""
        folder = self._models_dir / name if self._models_dir and Path(name).name == name else None
        if folder is None or not (folder / "manifest.toml").is_file():
            raise KeyError(name)
        manifest = read_manifest(folder)
        for variant in manifest.variants:
            _verify(manifest, variant)
        self._manifests = dict(sorted({**self._manifests, manifest.name: manifest}.items()))
        _log.info("bundle added", extra={"bundle": manifest.name, "version": manifest.version, "sha256": manifest.sha256})
        return manifest

    def __contains__(self, name: str) -> bool:
        """Tell whether a bundle is installed."""
        return name in self._manifests

    def __iter__(self) -> Iterator[Manifest]:
        """Yield the manifests in order of name."""
        return iter(self._manifests.values())

    def __len__(self) -> int:
        """Return how many bundles are installed."""
        return len(self._manifests)


def identity(manifest: Manifest, variant: Variant | None = None) -> BundleIdentity:
    """Return who speaks when this bundle speaks by one of its ONNX files (default: model.onnx); other weights are
    another device."""
    digest = manifest.sha256 if variant is None else variant.sha256
    return BundleIdentity(
        name=manifest.name, version=manifest.version, digest=digest, title=manifest.title, device_uid=device_uid(digest),
    )


def _verify(manifest: Manifest, variant: Variant) -> None:
    path = manifest.path_of(variant)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidManifest(f"{path}: cannot be read ({error.strerror})") from error
    if found != variant.sha256.lower():
        raise InvalidManifest(
            f"{path}: sha256 is {found}, the manifest says {variant.sha256}; the file is damaged or belongs to another "
            "version")
