"""`firstlook certs FOLDER`: a test authority, and certificates for a listener and its callers."""

from __future__ import annotations

import argparse
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from service import DISCLAIMER
from service.tls.authority import NAME_FORM, Authority, Issued
from service.tls.files import UnusableCertificate

_SERVER = "server"
_RESERVED = frozenset((_SERVER, "authority"))
_TOLD = """Make certificates to try TLS out with.

The first time, FOLDER gets a test authority (authority.pem), and a certificate for the listener (server.pem) made out to
--name; the next time the same authority signs what is asked for then. Each --client gets a certificate of its own, made
out to that name. Keys (*.key.pem) are files that only you can read. Nothing is ever overwritten.

A hospital's own authority is the better one in earnest: this one's key lies beside its certificates.
"""


def add_certs(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description, parser.formatter_class = _TOLD, argparse.RawDescriptionHelpFormatter
    parser.epilog = DISCLAIMER
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go")
    parser.add_argument("--name", action="append", default=[], metavar="HOST",
                        help="host name or address of the listener, as callers write it; several are possible "
                             "(default: this machine's name, localhost and 127.0.0.1)")
    parser.add_argument("--client", action="append", default=[], metavar="NAME", type=_client_name,
                        help="a caller, such as PACS; several are possible")
    parser.add_argument("--days", type=_days, default=365, help="how long they hold, 1 to 3650 (365)")
    parser.set_defaults(run=lambda a: certs(a.folder, a.name, a.client, a.days))


def certs(folder: Path, names: list[str], clients: list[str], days: int) -> int:
    """Make what is asked for, and say what it is and where it is used; return the exit code."""
    now = datetime.now(UTC)
    fresh = not (folder / "authority.pem").exists()
    try:
        authority = Authority.make(folder, now, days) if fresh else Authority.load(folder)
        made = []
        if names or fresh:
            made.append(authority.issue(_SERVER, names or _own_names(), now, days))
        made += [authority.issue(client, [client], now, days) for client in clients]
    except (UnusableCertificate, FileExistsError) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if not made:
        print("firstlook: nothing to do: name a --client or a --name", file=sys.stderr)  # noqa: T201
        return 2
    print("\n".join([f"authority    {authority.path.resolve()}", *(line for one in made for line in _said(one))]))  # noqa: T201
    return 0


def _said(one: Issued) -> list[str]:
    return [f"certificate  {one.certificate.resolve()}", f"  private_key  {one.private_key.resolve()}",
            f"  names        {', '.join(one.names)}", f"  until        {one.ends:%Y-%m-%d}",
            f"  fingerprint  {one.fingerprint}"]


def _own_names() -> list[str]:
    own = socket.gethostname()
    return [*([own] if NAME_FORM.fullmatch(own) and own != "localhost" else []), "localhost", "127.0.0.1"]


def _client_name(text: str) -> str:
    if not NAME_FORM.fullmatch(text) or text.lower() in _RESERVED or re.search(r"\.key$", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: accepted: letters, digits, '.', '_', '-', at most 64; not {' or '.join(sorted(_RESERVED))}")
    return text


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: 1 to 3650")
    return int(text)
