"""The section of the settings that speaks of the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.tls.files import CertificateFiles

FilePath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


class Audit(BaseModel):
    """The audit trail (PS3.15 A.5): logins, studies looked at, received and delivered, callers turned away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: bool = Field(True, description="Write it into daily files in data_dir/audit, readable by the owner only.")
    keep_days: int = Field(0, ge=0, le=36500, description="Daily files that are kept; 0: all of them.")
    source_id: str = Field("firstlook", min_length=1, max_length=64, description="Audit Source ID of this service.")
    site_id: str = Field("", max_length=64, description="Audit Enterprise Site ID; empty: left out.")
    syslog_host: str = Field("", description="Also send it to this syslog receiver (RFC 5424); empty: to none.")
    syslog_port: int = Field(6514, ge=1, le=65535, description="Its port.")
    syslog_transport: str = Field("tls", pattern="^(tls|udp)$", description="tls (RFC 5425) or udp (RFC 5426).")
    syslog_timeout_s: float = Field(10.0, gt=0, le=120, description="Network time-out, seconds.")
    authorities: FilePath = Field(None, description="TLS: PEM file of authorities; empty: those of the system.")
    certificate: FilePath = Field(None, description="TLS: PEM file of our certificate, where it asks for one.")
    private_key: FilePath = Field(None, description="TLS: PEM file of its key, without a password.")

    @property
    def files(self) -> CertificateFiles:
        """Where TLS finds its files."""
        return CertificateFiles("audit", self.certificate, self.private_key, self.authorities)
