"""The sections of the settings that speak of TLS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from service.tls.contexts import Demand
from service.tls.files import CertificateFiles

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def _path(value: Any) -> Any:
    return None if value == "" else value


def _fingerprint(value: Any) -> Any:
    """Bring a SHA-256 fingerprint to 64 lower-case digits; colons and spaces, as tools print them, are left out."""
    if not isinstance(value, str):
        return value
    plain = re.sub(r"[: ]", "", value).lower()
    if plain and not _FINGERPRINT.fullmatch(plain):
        raise ValueError("accepted: the SHA-256 fingerprint of a certificate, 64 hexadecimal digits, or nothing")
    return plain


FilePath = Annotated[Path | None, BeforeValidator(_path)]
Fingerprint = Annotated[str, BeforeValidator(_fingerprint)]


class ReceiveTls(BaseModel):
    """TLS for the listener, on a port of its own (PS3.15 B.12). Changed files are used from the next connection on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="Listen with TLS too; receive.plain = false: only with TLS.")
    port: int = Field(2762, ge=0, le=65535, description="TCP port with TLS; 0 takes a free one.")
    certificate: FilePath = Field(None, description="PEM: our certificate, then intermediate ones.")
    private_key: FilePath = Field(None, description="PEM: its key, without a password.")
    authorities: FilePath = Field(None, description="PEM: authorities, or single certificates, that callers' come from.")
    revocation_list: FilePath = Field(None, description="PEM: certificates revoked by these authorities.")
    client_certificate: Demand = Field(Demand.REQUIRED, description="required: callers show a certificate; optional; none.")
    handshake_timeout_s: float = Field(5.0, gt=0, le=120, description="Time to finish the TLS handshake, seconds.")

    @property
    def files(self) -> CertificateFiles:
        """The files."""
        return CertificateFiles("receive.tls", self.certificate, self.private_key, self.authorities, self.revocation_list)

    @model_validator(mode="after")
    def _whole(self) -> ReceiveTls:
        if not self.enabled:
            return self
        missing = [name for name in ("certificate", "private_key") if getattr(self, name) is None]
        if self.client_certificate is not Demand.NONE and self.authorities is None:
            missing.append("authorities")
        if missing:
            raise ValueError(f"enabled, but without {', '.join(missing)}; `firstlook certs` makes some to try it out")
        return self


class PeerTls(BaseModel):
    """TLS to this peer (PS3.15 B.12). Changed files are used from the next connection on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="Speak TLS to it.")
    authorities: FilePath = Field(None, description="PEM: authorities, or single certificates, that its own comes from; "
                                  "empty: those of the system.")
    revocation_list: FilePath = Field(None, description="PEM: certificates revoked by these authorities.")
    certificate: FilePath = Field(None, description="PEM: our certificate, where it asks for one.")
    private_key: FilePath = Field(None, description="PEM: its key, without a password.")
    name: str = Field("", description="Name or address that its certificate must be made out to; empty: host.")
    check_name: bool = Field(True, description="false: its certificate may be made out to any name.")
    certificate_fingerprint: Fingerprint = Field("", description="SHA-256 of its certificate; with it and without "
                                                 "authorities none is asked for its certificate. Empty: any.")

    @property
    def checks_authority(self) -> bool:
        """Whether its certificate must come from an authority: always, unless only its fingerprint is compared."""
        return self.authorities is not None or not self.certificate_fingerprint

    def files(self, place: str) -> CertificateFiles:
        """Return the files; place: the section of the settings that names them."""
        return CertificateFiles(place, self.certificate, self.private_key, self.authorities, self.revocation_list)

    @model_validator(mode="after")
    def _whole(self) -> PeerTls:
        if (self.certificate is None) is not (self.private_key is None):
            raise ValueError("certificate and private_key go together")
        if self.revocation_list is not None and self.authorities is None:
            raise ValueError("revocation_list needs authorities: those that have revoked")
        return self
