"""The commented example of every setting, generated from the settings themselves so that it cannot rot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.deliver.archives import ArchivePlace
from service.deliver.places import FolderPlace, Hl7Place, StowPlace, WebhookPlace
from service.deliver.worklists import ManagerPlace
from service.sections import Asked, Peer, Target
from service.settings import PREFIX, Settings
from service.web.site import SiteViewer

_HEAD = f"""# Every setting of firstlook with its default. Remove the '#' before a line to change it.
# An environment variable goes over this file: {PREFIX}<SECTION>__<FIELD>, for example {PREFIX}RECEIVE__PORT=11112
# Research use only. Not for clinical diagnosis.
"""
_LISTS: dict[tuple[str, str], type[BaseModel]] = {
    ("receive", "peers"): Peer, ("assemble", "ask"): Asked,
    ("priors", "archives"): ArchivePlace, ("workitems", "managers"): ManagerPlace,
    ("deliver", "targets"): Target, ("deliver", "stow"): StowPlace,
    ("deliver", "folders"): FolderPlace, ("deliver", "hl7"): Hl7Place, ("deliver", "webhooks"): WebhookPlace,
    ("web", "viewers"): SiteViewer}
_SAMPLES: dict[str | tuple[type[BaseModel], str], Any] = {
    "ae_title": "PACS", "name": "pacs", "host": "127.0.0.1", "port": 4242,
    (StowPlace, "name"): "dicomweb", (StowPlace, "url"): "https://pacs.example/dicom-web",
    (FolderPlace, "name"): "share", (FolderPlace, "folder"): "/mnt/results",
    (Hl7Place, "name"): "ris", (Hl7Place, "port"): 2575, (Hl7Place, "fields"): {"PV1-1": "1", "PV1-2": "U"},
    (WebhookPlace, "name"): "hook", (WebhookPlace, "url"): "https://hospital.example/firstlook",
    (WebhookPlace, "secret"): "file:/run/secrets/firstlook-webhook",
    (SiteViewer, "name"): "OHIF", (SiteViewer, "url"): "https://viewer.example/viewer?StudyInstanceUIDs={study_instance_uid}"}


def example() -> str:
    """Return the text of deploy/settings.example.toml."""
    lines = [_HEAD, *_field("log_level", Settings.model_fields["log_level"])]
    for section, info in Settings.model_fields.items():
        model = info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        lines += ["", f"[{section}]", f"# {_first_line(model)}"]
        tables = []
        for name, field in model.model_fields.items():
            inner = _LISTS.get((section, name))
            if inner is not None:
                tables += ["", f"# {field.description} One table each:", f"#[[{section}.{name}]]"]
                tables += _fields(inner, f"{section}.{name}", commented=True)
            elif _is_section(field):
                tables = [*_table(f"{section}.{name}", field, commented=False), *tables]
            else:
                lines += _field(name, field)
        lines += tables
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], path: str, commented: bool) -> list[str]:
    """Return the lines of a table's fields, then those of the tables in it."""
    plain = [line for n, f in model.model_fields.items() if not _is_section(f) for line in _field(n, f, model)]
    inner = [line for n, f in model.model_fields.items() if _is_section(f) for line in _table(f"{path}.{n}", f, commented)]
    return plain + inner


def _table(path: str, field: FieldInfo, commented: bool) -> list[str]:
    model = field.annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return ["", f"{'#' if commented else ''}[{path}]", f"# {_first_line(model)}", *_fields(model, path, commented)]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _field(name: str, field: FieldInfo, model: type[BaseModel] | None = None) -> list[str]:
    default = _SAMPLES.get(name, "") if field.is_required() else field.default
    if model is not None:
        default = _SAMPLES.get((model, name), default)
    shown = "models" if name == "models_dir" else _toml(default)
    if name == "models_dir":
        shown = '"models"  # default: the folder of the installed bundles'
    needed = " Required." if field.is_required() else ""
    return [f"# {field.description}{needed}", f"#{name} = {shown}"]


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (str, Path)):
        return json.dumps(str(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return str(value)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
