"""The settings: the tables of `sections` from a TOML file, then environment variables on top.

An environment variable is FIRSTLOOK_<SECTION>__<FIELD>, for example FIRSTLOOK_RECEIVE__PORT=11112.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from service.access.door import Login
from service.audit.sections import Audit
from service.deliver.archives import Priors
from service.deliver.places import SECRETS
from service.deliver.worklists import WorkItems
from service.infer.sections import Drift, Infer
from service.sections import (
    Assemble,
    Decode,
    Deliver,
    Monitor,
    Receive,
    Report,
    Section,
    Store,
    Triage,
    Web,
    Work,
)

PREFIX = "FIRSTLOOK_"


class InvalidSettings(ValueError):
    """Settings that cannot be used. The text names each field, the value found and what is accepted."""


class Settings(Section):
    """The whole tree; frozen. Sections are tables of the TOML file."""

    receive: Receive = Field(default_factory=Receive)
    assemble: Assemble = Field(default_factory=Assemble)
    triage: Triage = Field(default_factory=Triage)
    infer: Infer = Field(default_factory=Infer)
    decode: Decode = Field(default_factory=Decode)
    work: Work = Field(default_factory=Work)
    report: Report = Field(default_factory=Report)
    deliver: Deliver = Field(default_factory=Deliver)
    priors: Priors = Field(default_factory=Priors)
    workitems: WorkItems = Field(default_factory=WorkItems)
    web: Web = Field(default_factory=Web)
    drift: Drift = Field(default_factory=Drift)
    monitor: Monitor = Field(default_factory=Monitor)
    audit: Audit = Field(default_factory=Audit)
    store: Store = Field(default_factory=Store)
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")

    @model_validator(mode="after")
    def _archives_are_there(self) -> Settings:
        known = sorted(a.name for a in self.priors.archives)
        for manager in self.workitems.managers:
            if manager.archive and manager.archive not in known:
                raise ValueError(f"workitems.managers.{manager.name}.archive: {manager.archive!r} is not under "
                                 f"priors.archives; accepted: {', '.join(known) or 'none is set'}")
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        if self.web.oidc.enabled and self.web.login is Login.OFF:
            raise ValueError('web.login is "off" and web.oidc.issuer is set; accepted with an issuer: "auto", "required"')
        asks = self.web.login is Login.REQUIRED or self.web.oidc.enabled
        if not _is_loopback(self.web.host) and not self.web.access_token and not asks:
            raise ValueError(
                f"web.host is {self.web.host!r}, which is not loopback, and web.access_token is empty: patient data would "
                'be open to the network; set web.login to "required", or web.oidc, or web.access_token, or web.host to '
                "127.0.0.1")
        if self.monitor.port and not _is_loopback(self.monitor.host) and not self.web.access_token:
            raise ValueError(
                f"monitor.host is {self.monitor.host!r}, which is not loopback, and web.access_token is empty; set "
                "web.access_token, or monitor.host to 127.0.0.1")
        return self

    @property
    def database_url(self) -> str:
        """The database's URL, with the SQLite file in data_dir where none is given."""
        return self.store.database_url or f"sqlite:///{self.store.data_dir.resolve() / 'firstlook.db'}"


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the TOML file, then the environment on top, and check every field.

    Raises: InvalidSettings naming each field, the value found and what is accepted.
    """
    tree = _read_file(path) if path else {}
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and variable != PREFIX + "SETTINGS":
            _place(tree, variable, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise InvalidSettings("\n".join(_explain(e) for e in error.errors())) from error


def secret(value: str, where: str) -> str:
    """Return a secret as set, or the first line of the file that "file:/PATH" names.

    where: the setting, for the sentence. Raises: InvalidSettings when the file cannot be read or is empty.
    """
    if not value.startswith("file:"):
        return value
    path = Path(value.removeprefix("file:"))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{where}: {path} cannot be read") from error
    if not lines or not lines[0].strip():
        raise InvalidSettings(f"{where}: {path} is empty")
    return lines[0].strip()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: not valid TOML ({error})") from error


def _place(tree: dict[str, Any], variable: str, value: str) -> None:
    """Put one environment variable into the tree; a value that starts like a TOML array is read as one."""
    *sections, name = variable.removeprefix(PREFIX).lower().split("__")
    for section in sections:
        tree = tree.setdefault(section, {})
    try:
        tree[name] = tomllib.loads(f"v = {value}")["v"] if value.startswith("[") else value
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{variable}: not a TOML array ({error})") from error


def _explain(error: Any) -> str:
    """Say one validation error as: field, what is wrong or accepted, value found; an unknown key gets a hint."""
    where = [str(part) for part in error["loc"]]
    field = ".".join(where) or "settings"
    if error["type"] == "extra_forbidden":
        known = _known(where[:-1])
        close = difflib.get_close_matches(where[-1], known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{field}: unknown key; {hint}accepted: {', '.join(known)}"
    if field.endswith("ae_title") and error["type"] in ("string_pattern_mismatch", "string_too_long"):
        return f"{field}: an AE title has 1 to 16 characters, no backslash, not spaces only (found {error['input']!r})"
    silent = not where or error["type"] == "missing" or where[-1] in SECRETS or isinstance(error["input"], dict)
    found = "" if silent else f" (found {error['input']!r})"
    return f"{field}: {error['msg'].removeprefix('Value error, ')}{found}"


def _known(sections: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for section in sections:
        if section.isdigit():
            continue
        inner = model.model_fields[section].annotation
        model = next((m for m in (inner, *get_args(inner)) if isinstance(m, type) and issubclass(m, BaseModel)), model)
    return sorted(model.model_fields)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
