"""The tables of the settings for places: what each has, and those of DICOMweb, folders, HL7 v2 and web addresses."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from service.deliver.oru import ENCODINGS, PRIORITIES, check_field
from service.tls.files import CertificateFiles

KINDS = ("seg", "sr", "sc", "pr", "ko")
SECRETS = ("token", "client_secret", "secret")
AE_TITLE = r"^ *[!-\[\]-~][ -\[\]-~]*$"  # PS3.5 6.2: no backslash, not spaces only
_NAME = r"^[a-z0-9-]{1,32}$"
_SECRET = "; file:/PATH reads it from a file"


class Place(BaseModel):
    """What every place has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Short name, in metrics and the worklist.")


class Peer(Place):
    """A DICOM application entity that we call for work or for images."""

    name: str = Field(pattern=_NAME, description="Short name, for the trace and the metrics.")
    ae_title: str = Field(description="Its AE title.", pattern=AE_TITLE, max_length=16)
    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    calling_ae_title: str = Field("", description="AE title we call with; empty: receive.ae_title.")


class Objects(Place):
    """A place that takes DICOM objects."""

    objects: tuple[str, ...] = Field(KINDS, description=f"Kinds of objects it gets: {', '.join(KINDS)}.")

    @field_validator("objects")
    @classmethod
    def _known_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(KINDS):
            raise ValueError(f"accepted: one or more of {', '.join(KINDS)}")
        return value


class Secured(Place):
    """A place that may be reached by TLS."""

    timeout_s: float = Field(30.0, gt=0, le=600, description="Network time-out, seconds.")
    authorities: Path | None = Field(None, description="TLS: PEM file of authorities; empty: those of the system.")
    certificate: Path | None = Field(None, description="TLS: PEM file of our certificate, where it asks for one.")
    private_key: Path | None = Field(None, description="TLS: PEM file of its key, without a password.")

    @field_validator("authorities", "certificate", "private_key", mode="before")
    @classmethod
    def _nothing(cls, value: object) -> object:
        return value or None

    def files(self, section: str) -> CertificateFiles:
        """Return where TLS finds its files."""
        return CertificateFiles(f"deliver.{section}.{self.name}", self.certificate, self.private_key, self.authorities)


class StowPlace(Secured, Objects):
    """A DICOMweb server that takes results by STOW-RS."""

    url: str = Field(description="Address of the service, before /studies: https://pacs.example/dicom-web.")
    token: str = Field("", description="Bearer token that never changes; empty: none" + _SECRET + ".")
    token_url: str = Field("", description="OAuth 2.0 token endpoint (client credentials); empty: no OAuth.")
    client_id: str = Field("", description="OAuth: who we are.")
    client_secret: str = Field("", description="OAuth: our secret" + _SECRET + ".")
    scope: str = Field("", description="OAuth: scope asked for; empty: none.")
    client_in_body: bool = Field(False, validate_default=True,
                                 description="OAuth: client id and secret in the body instead of HTTP Basic.")

    @field_validator("url", "token_url")
    @classmethod
    def _address(cls, value: str, about: ValidationInfo) -> str:
        return web_address(value) if value or about.field_name == "url" else value

    @field_validator("client_in_body")
    @classmethod
    def _whole(cls, value: bool, about: ValidationInfo) -> bool:
        told = about.data
        if told.get("token") and told.get("token_url"):
            raise ValueError("either token or token_url, not both")
        if bool(told.get("token_url")) is not bool(told.get("client_id") and told.get("client_secret")):
            raise ValueError("token_url, client_id and client_secret go together")
        return value


class FolderPlace(Objects):
    """A folder that results are written to."""

    folder: Path = Field(description="The folder; it must exist (a disk that is not mounted is not made).")


class WebhookPlace(Secured):
    """A web address that is told of each result by POST, in JSON."""

    url: str = Field(description="Its address.")
    secret: str = Field(min_length=16, description="Key of the signature (HMAC-SHA256), 16 characters at least"
                        + _SECRET + ".")
    with_patient: bool = Field(False, description="Also tell Patient ID, its issuer and Accession Number.")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        return web_address(value)


class Hl7Place(Secured):
    """A receiver of HL7 v2 messages (ORU^R01) over MLLP."""

    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    tls: bool = Field(False, description="Speak TLS to it.")
    encoding: str = Field("utf-8", description=f"Encoding of the text: {', '.join(ENCODINGS)}.")
    with_text: bool = Field(True, description="Send the lines of the report (OBX of type TX).")
    with_codes: bool = Field(True, description="Send coded findings and numbers (OBX of types CE and NM).")
    text_code: str = Field("18748-4^Diagnostic imaging study^LN", description="OBX-3 of the lines of the report.")
    abnormal_flag: str = Field("A", description="OBX-8 of a finding that is present; empty: none.")
    result_status: str = Field("P", description="OBR-25 and OBX-11; P: preliminary.")
    priorities: dict[str, str] = Field(dict(PRIORITIES), description="Priority (OBR-5, OBR-27) by urgency.")
    fields: dict[str, str] = Field({}, description="Fields that go over ours: \"PV1-2\" = \"U\"; {accession} and other "
                                   "placeholders are filled in; \"\" leaves a field out.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        if value not in ENCODINGS:
            raise ValueError(f"accepted: {', '.join(ENCODINGS)}")
        return value

    @field_validator("text_code", "abnormal_flag", "result_status")
    @classmethod
    def _one_field(cls, value: str) -> str:
        if "|" in value or not value.isprintable():
            raise ValueError("accepted: text without '|' and control characters")
        return value

    @field_validator("priorities")
    @classmethod
    def _known_urgencies(cls, value: dict[str, str]) -> dict[str, str]:
        if set(value) - set(PRIORITIES):
            raise ValueError(f"accepted: codes for {', '.join(PRIORITIES)}")
        return dict(PRIORITIES) | value

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, value: dict[str, str]) -> dict[str, str]:
        for field, template in value.items():
            check_field(field, template)
        return value


def web_address(value: str) -> str:
    """Return an address as it is: https, or http on this machine. Raises: ValueError saying what is accepted."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("accepted: https://HOST/PATH, without user, query and fragment")
    if parts.scheme == "http" and not _is_near(parts.hostname):
        raise ValueError("http would show patient data and secrets to the network; accepted: https, or http on loopback or "
                         "a private address")
    return value


def _is_near(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host  # localhost, or a name of the same network such as that of a container
    return address.is_loopback or address.is_private
