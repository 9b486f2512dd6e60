"""The other side of each kind of target, on loopback: it behaves as told and remembers what it took."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, Verification

from service.deliver.cstore import CStoreTarget
from service.deliver.folder import FolderTarget
from service.deliver.http import Caller, Credentials, Token
from service.deliver.mllp import MllpTarget
from service.deliver.oauth import Client, ClientCredentials
from service.deliver.oru import PRIORITIES, Mapped
from service.deliver.stow import StowTarget
from service.deliver.target import Target
from service.deliver.webhook import WebhookTarget
from service.tls.calling import calling
from service.tls.contexts import Demand, server_context
from service.tls.sections import PeerTls
from tests.certificates import Hospital
from tests.peers import HOST, free_port

TIMEOUT_S = 1.5
SECRET = "a-secret-of-the-test"
TOKEN = "good-token"


@dataclass
class Receiver:
    """What every receiver has.

    does: well, refuse (for good), busy (for now), stall (no answer), break (ends in the middle), nonsense (an answer that
    is none). taken: what it took, by a key that is the same when the same comes again; times: how often it took something.
    """

    does: str = "well"
    taken: dict[str, Any] = field(default_factory=dict)
    times: int = 0
    free: threading.Event = field(default_factory=threading.Event)

    def take(self, key: str, what: Any = None) -> None:
        """Remember something."""
        self.taken[key] = what
        self.times += 1

    def running(self) -> Any:
        """Return a context in which it runs."""
        raise NotImplementedError

    def target(self, **wrong: Any) -> Target:
        """Return the target that delivers to it. wrong: `away`, nobody there; `credentials`, bad ones."""
        raise NotImplementedError


# ---------------------------------------------------------------- C-STORE

@dataclass
class Pacs(Receiver):
    """A DICOM peer."""

    port: int = 0

    @contextmanager
    def running(self) -> Iterator[Pacs]:
        """Run it."""
        entity = AE(ae_title="PACS")
        entity.require_calling_aet = ["FIRSTLOOK"]
        for uid in (Verification, Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
            entity.add_supported_context(uid)
        server = entity.start_server((HOST, 0), block=False, ssl_context=self.secured_by(), evt_handlers=[
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _: 0x0000)])
        self.port = server.socket.getsockname()[1]
        try:
            yield self
        finally:
            self.free.set()
            server.shutdown()

    def target(self, **wrong: Any) -> Target:
        """Return its target."""
        return CStoreTarget("place", "PACS", HOST, free_port() if wrong.get("away") else self.port,
                            "STRANGER" if wrong.get("credentials") else "FIRSTLOOK", TIMEOUT_S)

    def secured_by(self) -> ssl.SSLContext | None:
        """Return what it shakes hands with; None: without TLS."""
        return None

    def _store(self, event: evt.Event) -> int:
        if self.does == "stall":
            self.free.wait(30)
        if self.does == "break":
            event.assoc.abort()
            return 0x0000
        status = {"refuse": 0xA900, "busy": 0xA700, "nonsense": 0x1234}.get(self.does, 0x0000)
        if status == 0x0000:
            self.take(str(event.request.AffectedSOPInstanceUID), event.encoded_dataset())
        return status


@dataclass
class SecurePacs(Pacs):
    """A DICOM peer with TLS that asks for a certificate of its authority. folder: for certificates."""

    folder: Path = Path()

    def secured_by(self) -> ssl.SSLContext:
        """Return what it shakes hands with."""
        self.site = Hospital(self.folder)
        return server_context(self.site.files(self.site.issue("pacs")), demand=Demand.REQUIRED)

    def target(self, **wrong: Any) -> Target:
        """Return its target; with bad credentials it shows the certificate of another authority."""
        other = Hospital(self.folder / "other", "another authority") if wrong.get("credentials") else self.site
        own = other.issue("firstlook")
        how = calling(PeerTls(enabled=True, authorities=self.site.path, certificate=own.path, private_key=own.key_path),
                      "deliver.targets.place.tls", "localhost")
        return CStoreTarget("place", "PACS", "localhost", free_port() if wrong.get("away") else self.port, "FIRSTLOOK",
                            TIMEOUT_S, calling=how)


# ---------------------------------------------------------------- HTTP: STOW-RS, tokens, webhooks

@dataclass
class Web(Receiver):
    """An HTTP server. `answer` gives status, headers and body; `stall` and `break` are done here."""

    port: int = 0
    requests: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Run it."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                outer.serve(self)

            do_GET = do_POST  # noqa: N815 - the name that http.server calls

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        with ThreadingHTTPServer((HOST, 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                self.free.set()
                server.shutdown()
                thread.join()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        if self.does == "break":
            handler.rfile.read(100)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append((handler.command, handler.path, dict(handler.headers), body))
        if self.does == "stall":
            self.free.wait(30)
            handler.close_connection = True
            return
        status, headers, content = self.answer(handler.command, handler.path, handler.headers, body)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"


@dataclass
class Stow(Web):
    """A DICOMweb server. says: an answer of its own instead: status and DICOM JSON, or bytes, by the UIDs it got."""

    says: Callable[[list[str]], tuple[int, Any]] | None = None
    credentials: Credentials | None = None
    accepts: set[str] = field(default_factory=lambda: {f"Bearer {TOKEN}"})

    def target(self, **wrong: Any) -> Target:
        """Return its target."""
        shown = Token("wrong") if wrong.get("credentials") else self.credentials or Token(TOKEN)
        at = f"http://{HOST}:{free_port()}" if wrong.get("away") else self.url
        return StowTarget(Caller("place", TIMEOUT_S, None, shown), at + "/dicom-web")

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Store what came, as PS3.18 10.5 wants it answered."""
        if headers.get("Authorization") not in self.accepts:
            return 401, {"WWW-Authenticate": "Bearer"}, b"who are you?"
        if method == "GET":
            return 200, {}, b"[]"
        assert path == "/dicom-web/studies" and headers["Accept"] == "application/dicom+json"
        if self.does != "well":
            return {"refuse": 415, "busy": 503, "nonsense": 202}[self.does], {}, b"\xff{]"
        objects = _parts(headers["Content-Type"], body)
        if self.says:
            status, told = self.says([str(ds.SOPInstanceUID) for _, ds in objects])
            return status, {}, told if isinstance(told, bytes) else json.dumps(told).encode()
        for data, ds in objects:
            self.take(str(ds.SOPInstanceUID), data)
        return 200, {}, json.dumps(told_stored([str(ds.SOPInstanceUID) for _, ds in objects])).encode()


def told_stored(uids: list[str], **failed: int) -> dict[str, Any]:
    """Return a Store Instances Response; failed: Failure Reason by SOP Instance UID, dots written as underscores."""
    made: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": [_referenced(uid) for uid in uids]}}
    if failed:
        made["00081198"] = {"vr": "SQ", "Value": [
            _referenced(uid.replace("_", ".").lstrip(".")) | {"00081197": {"vr": "US", "Value": [reason]}}
            for uid, reason in failed.items()]}
    return made


def _referenced(uid: str) -> dict[str, Any]:
    return {"00081155": {"vr": "UI", "Value": [uid]}}


def _parts(content_type: str, body: bytes) -> list[tuple[bytes, Any]]:
    """Take a multipart/related request apart with the standard library's parser of mail."""
    boundary = re.search(r"boundary=(\S+)", content_type)
    assert boundary and content_type.startswith('multipart/related; type="application/dicom"')
    assert body.endswith(b"--" + boundary[1].encode() + b"--\r\n")
    found = []
    for piece in body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, data = piece.strip(b"\r\n").partition(b"\r\n\r\n")
        assert BytesParser().parsebytes(head)["Content-Type"] == "application/dicom"
        raw = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        found.append((raw, dcmread(BytesIO(raw))))
        assert data
    return found


@dataclass
class Tokens(Web):
    """A token endpoint of OAuth 2.0. life_s: expires_in, None leaves it out; says: an answer of its own."""

    life_s: int | None = 3600
    in_body: bool = False
    says: tuple[int, Any] | None = None
    issued: list[str] = field(default_factory=list)
    on_issue: Callable[[str], None] = lambda _: None

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Issue a token to whoever knows id and secret (RFC 6749 4.4)."""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        basic = headers.get("Authorization", "") == "Basic Y2xpJTNBZW50OnMlMjZjcmV0"  # cli:ent and s&cret, form-encoded
        known = (form.get("client_id"), form.get("client_secret")) == ("cli:ent", "s&cret") if self.in_body else basic
        if self.says:
            return self.says[0], {}, json.dumps(self.says[1]).encode()
        if form.get("grant_type") != "client_credentials" or not known:
            return 401, {}, json.dumps({"error": "invalid_client", "error_description": "Doe^Jane"}).encode()
        token = f"token-{len(self.issued)}"
        self.issued.append(token)
        self.on_issue(token)
        told = {"access_token": token, "token_type": "bearer"} | ({"expires_in": self.life_s} if self.life_s else {})
        return 200, {}, json.dumps(told).encode()


@dataclass
class OAuthStow(Stow):
    """A DICOMweb server that takes the tokens of an endpoint beside it (OAuth 2.0 client credentials)."""

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Run both."""
        self.accepts, self.tokens = set(), Tokens()
        self.tokens.on_issue = lambda token: self.accepts.add(f"Bearer {token}")
        with self.tokens.running(), super().running():
            yield self

    def target(self, **wrong: Any) -> Target:
        """Return its target; with bad credentials the endpoint knows the client, but not the secret."""
        client = Client(f"{self.tokens.url}/token", "cli:ent", "wrong" if wrong.get("credentials") else "s&cret")
        shown = ClientCredentials(client, Caller("place", TIMEOUT_S), lambda: 0.0)
        at = f"http://{HOST}:{free_port()}" if wrong.get("away") else self.url
        return StowTarget(Caller("place", TIMEOUT_S, None, shown), at + "/dicom-web")


@dataclass
class Hook(Web):
    """A web address that checks signatures."""

    with_patient: bool = False

    def target(self, **wrong: Any) -> Target:
        """Return its target."""
        at = f"http://{HOST}:{free_port()}" if wrong.get("away") else self.url
        key = "another-secret-of-it" if wrong.get("credentials") else SECRET
        return WebhookTarget(Caller("place", TIMEOUT_S), at + "/hook", key, self.with_patient, lambda: 1_800_000_000.0)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Take a message whose signature is right."""
        signed = headers["X-Firstlook-Timestamp"].encode() + b"." + body
        good = "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(good, headers["X-Firstlook-Signature"]):
            return 403, {}, b""
        if self.does != "well":
            return {"refuse": 422, "busy": 503, "nonsense": 302}[self.does], {"Location": "http://127.0.0.1:1/"}, b"?"
        if json.loads(body)["event"] == "result":
            self.take(headers["X-Firstlook-Delivery"], json.loads(body))
        return 204, {}, b""


# ---------------------------------------------------------------- HL7

@dataclass
class Hl7(Receiver):
    """A receiver of HL7 v2. acknowledges: MSA-1 and ERR-3; says: bytes of its own instead."""

    port: int = 0
    acknowledges: tuple[str, str] = ("AA", "")
    says: bytes | None = None
    mapped: Mapped = field(default_factory=lambda: Mapped({}, PRIORITIES))

    @contextmanager
    def running(self) -> Iterator[Hl7]:
        """Run it."""
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                outer.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True

        with Server((HOST, 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                self.free.set()
                server.shutdown()
                thread.join()

    def target(self, **wrong: Any) -> Target:
        """Return its target."""
        port = free_port() if wrong.get("away") else self.port
        return MllpTarget("place", HOST, port, self.mapped, lambda: 1_800_000_000.0, TIMEOUT_S)

    def serve(self, handler: socketserver.StreamRequestHandler) -> None:
        """Read one message and acknowledge it."""
        if self.does == "break":
            handler.rfile.read(50)
            return
        received = b""
        while not received.endswith(b"\x1c\r"):
            piece = handler.rfile.read1(65536)
            if not piece:
                return
            received += piece
        if self.does == "stall":
            self.free.wait(30)
            return
        text = received.strip(b"\x0b\x1c\r")
        control_id = text.split(b"\r")[0].split(b"|")[9].decode()
        code, error = {"refuse": ("AE", "103"), "busy": ("AR", "207")}.get(self.does, self.acknowledges)
        if code in ("AA", "CA") and self.does == "well":
            self.take(control_id, text)
        answer = f"MSH|^~\\&|RIS|H|FIRSTLOOK||20260101||ACK^R01|9|P|2.5.1\rMSA|{code}|{control_id}\r"
        answer += f"ERR||OBX^1|{error}^told|E\r" if error else ""
        said = self.says if self.says is not None else b"hello" if self.does == "nonsense" else answer.encode()
        handler.wfile.write(b"\x0b" + said + b"\x1c\r")


# ---------------------------------------------------------------- folder

@dataclass
class Share(Receiver):
    """A folder; what is in it is what was taken."""

    folder: Path = Path()

    @contextmanager
    def running(self) -> Iterator[Share]:
        """Make the folder."""
        self.folder.mkdir()
        yield self

    def target(self, **wrong: Any) -> Target:
        """Return its target."""
        return FolderTarget("place", self.folder / "not-mounted" if wrong.get("away") else self.folder)
