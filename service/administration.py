"""From the settings to what the page of the administrator shows and does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.deliver.places import FolderPlace, Hl7Place, Place, StowPlace, WebhookPlace
from service.deliver.target import Outlet
from service.domain.manifest import READERS, TASKS, InvalidManifest, read_manifest
from service.outlets import kinds_by_target
from service.pipeline.dry_run import DryRun, dry_run
from service.sections import Target
from service.settings import InvalidSettings, Settings
from service.store.database import Database
from service.switching import as_set, problems, require_readers
from service.triage.rules import RULES, Rule
from service.triage.rules_file import load_rules
from service.web.admin import Administration, Destination, Sender
from service.web.admin_models import BundleLine, Models
from service.web.admin_rules import Rules

_CARD = "MODEL_CARD.md"


def administration_of(settings: Settings, database: Database, targets: Callable[[], Mapping[str, Outlet]],
                      retry: Callable[[str], Sequence[str]]) -> Administration:
    """Return what the page works with. targets: made when one is asked; retry: takes up again what a study left."""
    return Administration(
        senders=_senders(settings), destinations=_destinations(settings), echo=lambda name: targets()[name].target.echo(),
        models=_models(settings), retry=retry, rules=_rules(settings, database),
        audit_folder=settings.store.data_dir.resolve() / "audit" if settings.audit.file else None,
        patient_names=settings.web.patient_names)


def _models(settings: Settings) -> Models:
    folder = settings.infer.models_dir
    uses = {settings.infer.cxr_gate: "judges radiographs", settings.infer.cxr_lungs: "finds lung fields"}

    def wrong(kind: str, names: Sequence[str]) -> Sequence[str]:
        try:
            require_readers(settings, kind, names)
        except InvalidSettings as error:
            return [str(error)]
        return list(problems(settings, names))

    return Models(lambda: _bundles(folder, uses), lambda name: _card(folder, name), as_set(settings), wrong)


def _rules(settings: Settings, database: Database) -> Rules:
    wanted = settings.triage

    def in_use() -> Sequence[Rule]:
        return load_rules(wanted.rules) if wanted.rules else RULES

    def tried(text: str, since: float) -> DryRun:
        return dry_run(database, text, in_use(), wanted.emergency_ae_titles, since)

    return Rules(in_use, tried, str(wanted.rules or ""))


def _senders(settings: Settings) -> list[Sender]:
    if settings.receive.any_calling_ae:
        return [Sender("", "")]
    return [Sender(peer.ae_title, peer.address) for peer in settings.receive.peers]


def _destinations(settings: Settings) -> list[Destination]:
    takes = kinds_by_target(settings)
    return [Destination(place.name, *_described(place), ", ".join(sorted(kind.upper() for kind in takes[place.name])))
            for place in settings.deliver.all]


def _described(place: Place) -> tuple[str, str]:
    """Return what a place is and where, without any secret."""
    if isinstance(place, Target):
        return "DICOM", f"{place.ae_title}@{place.host}:{place.port}"
    if isinstance(place, StowPlace):
        return "DICOMweb", place.url
    if isinstance(place, FolderPlace):
        return "folder", str(place.folder)
    if isinstance(place, Hl7Place):
        return "HL7 v2", f"{place.host}:{place.port}"
    return ("webhook", _host(place.url)) if isinstance(place, WebhookPlace) else (type(place).__name__, "")


def _host(url: str) -> str:
    """Return scheme and host: the path of a webhook is often its secret."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _bundles(folder: Path, uses: Mapping[str, str]) -> list[BundleLine]:
    """Return the bundles as their manifests describe them; the weights were compared with these when they were loaded."""
    lines = []
    for path in sorted(folder.glob("*/manifest.toml")):
        name = path.parent.name
        card = (path.parent / _CARD).is_file()
        try:
            found = read_manifest(path.parent)
        except InvalidManifest as error:
            lines.append(BundleLine(name, problem=str(error), card=card))
            continue
        kind = TASKS[found.task].value if found.task in READERS else ""
        lines.append(BundleLine(found.name, found.version, found.title, found.task, found.sha256, kind,
                                uses.get(found.name, ""), card=card))
    return sorted(lines, key=lambda line: line.name)


def _card(folder: Path, name: str) -> str | None:
    """Return the model card of a bundle that is there; a name is compared with the folders, never made into a path."""
    for path in folder.glob(f"*/{_CARD}"):
        if path.parent.name == name:
            return path.read_text(encoding="utf-8", errors="replace")
    return None
