"""A support archive: what somebody far away needs to help, and nothing of a patient.

UIDs are replaced by a keyed digest, the same UID by the same word within one archive, so that a study can be followed in it
and not outside. Log lines are kept only where they are ours (JSON), with their known fields only.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import json
import platform
import re
import secrets
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel
from sqlalchemy import func, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel, col

from service import DISCLAIMER, __version__
from service.backup import newest_revision, revision_of
from service.domain.manifest import InvalidManifest
from service.errors import FirstlookError
from service.infer.catalogue import Catalogue
from service.settings import Settings
from service.store.database import Database
from service.store.tables import Job, Study
from service.web.health import Check

LINES = 2000
_UID = re.compile(r"(?<![\d.])(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){4,}(?![\d.])")
_SECRET = re.compile(r"token|password|secret|key$|_key_", re.I)
_FIELDS = frozenset({
    "time", "level", "logger", "event", "study", "job", "kind", "reason", "error", "where", "loop", "bundle", "version",
    "provider", "precision", "threads", "seconds", "fell_back", "roles", "port", "tls_port", "urgency", "place", "revision",
    "objects", "jobs", "files", "leftovers", "rows_made", "next", "pdu_bytes", "every_association_ended", "for", "address",
    "because", "target", "correction"})
_ABOUT = f"""A support archive of firstlook. {DISCLAIMER}

It holds no patient data: no images, no rows of studies, no names, identifiers or free text. UIDs are replaced by words that
mean nothing outside this archive. It holds the settings without secrets, with AE titles and addresses of this site.
"""


def pack(settings: Settings, file: Path, checks: Callable[[], Sequence[Check]], log: Path | None = None) -> list[str]:
    """Write the archive (zip) and return the names in it. checks: run now; log: of the service, for its last lines."""
    hide = _Hidden()
    parts: dict[str, Callable[[], str]] = {
        "README.txt": lambda: _ABOUT,
        "versions.json": lambda: _json(_versions()),
        "settings.json": lambda: _json(_plain(settings)),
        "checks.json": lambda: _json([asdict(c) for c in checks()]),
        "database.json": lambda: _json(_database(settings.database_url)),
        "bundles.json": lambda: _json(_bundles(settings)),
        "metrics.txt": lambda: _metrics(settings),
        "log.jsonl": lambda: _log_lines(log) if log else "no log was named (--log FILE)\n",
    }
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, made in parts.items():
            archive.writestr(name, hide(made()))
    return list(parts)


class _Hidden:
    """Replaces UIDs by words, with a key that lives as long as the archive is made."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, content: str) -> str:
        return _UID.sub(self._word, content)

    def _word(self, found: re.Match[str]) -> str:
        return "uid-" + hmac.new(self._key, found[0].encode(), hashlib.sha256).hexdigest()[:12]


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, default=str, ensure_ascii=False) + "\n"


def _versions() -> dict[str, Any]:
    packages = sorted((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())
    return {"firstlook": __version__, "python": platform.python_version(), "system": platform.platform(),
            "packages": dict(packages)}


def _plain(value: Any, name: str = "") -> Any:
    """Return settings as JSON: what is secret says only whether it is set; a URL loses its password."""
    if isinstance(value, BaseModel):
        return {field: _plain(getattr(value, field), field) for field in type(value).model_fields}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str) and value and _SECRET.search(name):
        return "(set)"
    if name.endswith("_url") and value:
        try:
            return make_url(value).render_as_string(hide_password=True)
        except SQLAlchemyError:
            return "(set, not a URL)"
    if name == "url" and value:  # of a webhook, whose path may be its password
        where = httpx.URL(value)
        return f"{where.scheme}://{where.host}/..."
    return str(value) if isinstance(value, Path) else value


def _database(url: str) -> dict[str, Any]:
    """Return kind, revision and counts; never a value of a row, except our own states and reason codes."""
    told: dict[str, Any] = {"newest_revision": newest_revision()}
    try:
        database = Database(url)
        try:
            told |= {"kind": database.engine.dialect.name, "revision": revision_of(database), **_counts(database)}
        finally:
            database.close()
    except (SQLAlchemyError, OSError, ImportError) as error:
        told["error"] = type(error).__name__
    return told


def _counts(database: Database) -> dict[str, Any]:
    with database.reading() as session:
        there = set(inspect(session.connection()).get_table_names()) & set(SQLModel.metadata.tables)
        rows = {t: session.connection().execute(text(f'SELECT count(*) FROM "{t}"')).scalar() for t in sorted(there)}
        told: dict[str, Any] = {"rows": rows}
        if "study" in there:
            told["studies"] = _grouped(session.execute(
                select(col(Study.state), col(Study.state_reason), col(Study.delivery), func.count())
                .group_by(col(Study.state), col(Study.state_reason), col(Study.delivery))).all())
        if "job" in there:
            told["jobs"] = _grouped(session.execute(
                select(col(Job.kind), col(Job.state), col(Job.reason), func.count())
                .group_by(col(Job.kind), col(Job.state), col(Job.reason))).all())
    return told


def _grouped(rows: Iterable[Any]) -> dict[str, int]:
    return {" ".join(filter(None, row[:-1])): row[-1] for row in rows}


def _bundles(settings: Settings) -> Any:
    """Return each bundle with its digest; loading it compares the digest with the file."""
    try:
        catalogue = Catalogue.load(settings.infer.models_dir)
    except (InvalidManifest, FirstlookError, OSError) as error:
        return {"error": str(error)}
    return [{"name": m.name, "version": m.version, "task": m.task, "sha256": m.sha256,
             "in_use": m.name in settings.infer.bundles} for m in catalogue]


def _metrics(settings: Settings) -> str:
    """Return what the running service tells, asked at its own page on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.web.host, settings.web.host)
    where = f"[{host}]" if ":" in host else host
    try:
        answer = httpx.get(f"http://{where}:{settings.web.port}/metrics", timeout=5,
                           headers={"Authorization": f"Bearer {settings.web.access_token}"})
    except httpx.HTTPError as error:
        return f"# the page does not answer: {type(error).__name__}\n"
    return answer.text if answer.is_success else f"# the page answers {answer.status_code}\n"


def _log_lines(log: Path) -> str:
    """Return the last lines that are ours, with their known fields; how many were left out is said."""
    with log.open(encoding="utf-8", errors="replace") as file:
        last = file.readlines()[-LINES:]
    kept: list[str] = []
    for line in last:
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(said, dict) and {"time", "level", "logger", "event"} <= said.keys():
            kept.append(json.dumps({k: v for k, v in said.items() if k in _FIELDS}))
    left_out = len(last) - len(kept)
    return "\n".join([*kept, json.dumps({"lines_left_out": left_out})]) + "\n"
