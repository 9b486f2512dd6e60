"""The other side of the wire: a PACS that can misbehave, DCMTK and Orthanc where installed, and raw senders."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Any

import httpx
import pytest
from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from service.deliver.steady import steady
from service.demo.pacs import DemoPacs
from service.metrics import Metrics
from service.receive.listener import Listener
from service.receive.policy import Policy
from service.receive.server import Tls
from service.receive.spool import Spool
from service.store.database import Database
from service.store.intake import Intake

HOST = "127.0.0.1"
CALLED = "FIRSTLOOK"
CALLING = "MODALITY"
DEADLINE_S = 20.0
FAST_PATH = "FIRSTLOOK_RECEIVE__FAST_PATH"
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def missing(what: str) -> None:
    """Skip the test because a peer is not installed; in CI that is an error."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; `make peers` installs it")
    pytest.skip(f"{what} is not installed; `make peers` installs it where apt and root are there")


def wait_until(condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Return the first true value of the condition; fail when there is none before the deadline."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not reached within {timeout_s} s")
        pause.wait(0.01)
    return value


def free_port() -> int:
    """Return a TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- our listener, as the peers see it

@dataclass(frozen=True)
class Station:
    """A running listener and what is behind it."""

    listener: Listener
    database: Database
    spool: Spool
    metrics: Metrics

    @property
    def port(self) -> int:
        """The port to send to."""
        return self.listener.port

    @property
    def tls_port(self) -> int:
        """The port to send to with TLS."""
        return self.listener.tls_port

    def counted(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 when it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def listening(folder: Path, is_own: Callable[[str], bool] = lambda uid: False, tls: Tls | None = None,
              **policy: Any) -> Iterator[Station]:
    """Run a listener on a free port that takes any caller, unless `policy` says otherwise; the rows go to SQLite.

    The variable that switches the service's fast path off does so here, too.
    """
    fast_path = os.environ.get(FAST_PATH, "true") != "false"
    settings = Policy(**({"ae_title": CALLED, "any_calling_ae": True, "fast_path": fast_path} | policy))
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{folder / 'firstlook.db'}")
    database.migrate()
    spool, metrics = Spool(folder / "spool", settings.min_free_bytes), Metrics()
    listener = Listener(settings, spool, Intake(database, time.time), metrics, is_own, tls=tls)
    listener.start()
    try:
        yield Station(listener, database, spool, metrics)
    finally:
        assert listener.stop(), "an association did not end"
        database.close()


# ---------------------------------------------------------------- a PACS that can misbehave

class ScriptedPacs(DemoPacs):
    """A PACS that refuses, aborts or stalls as told; otherwise a PACS."""

    def __init__(self, folder: Path, ae_title: str = "PACS", port: int = 0) -> None:
        super().__init__(ae_title, folder, port, before_store=self._misbehave)
        self._script: list[int | str] = []
        self._always: int | str = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self.attempts: list[str] = []

    def __enter__(self) -> ScriptedPacs:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.resume()
        self.stop()

    def refuse(self, status: int, times: int | None = None) -> None:
        """Answer the next stores (all, without `times`) with a status, for example 0xA700."""
        self._follow(status, times)

    def abort(self, times: int | None = None) -> None:
        """Abort the association at the next stores."""
        self._follow("abort", times)

    def stall(self) -> None:
        """Do not answer any store until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        """Answer again, and behave."""
        self._script.clear()
        self._always = 0
        self._flowing.set()

    def _follow(self, act: int | str, times: int | None) -> None:
        if times is None:
            self._always = act
        else:
            self._script += [act] * times

    def _misbehave(self, association: Any, sop_instance_uid: str) -> int:
        self.attempts.append(sop_instance_uid)
        self._flowing.wait(DEADLINE_S * 3)
        act = self._script.pop(0) if self._script else self._always
        if act == "abort":
            association.abort()
            return 0x0110
        return int(act)


# ---------------------------------------------------------------- senders

@dataclass(frozen=True)
class Raw:
    """An object as it goes over the wire: data set bytes (None: the command says there is none), and the command."""

    data: bytes | None
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str = ExplicitVRLittleEndian

    @classmethod
    def of(cls, dataset: FileDataset, **changes: Any) -> Raw:
        """Encode a data set in its transfer syntax; `changes` replace fields."""
        syntax = dataset.file_meta.TransferSyntaxUID
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, syntax == ImplicitVRLittleEndian
        write_dataset(buffer, dataset)
        made = {"data": buffer.getvalue(), "sop_class_uid": str(dataset.SOPClassUID),
                "sop_instance_uid": str(dataset.SOPInstanceUID), "transfer_syntax_uid": str(syntax)}
        return cls(**(made | changes))


class Link:
    """An open association to a listener, on which objects are sent exactly as given."""

    def __init__(self, port: int, contexts: Sequence[tuple[str, str]], called: str = CALLED, calling: str = CALLING,
                 tls: SSLContext | None = None, source: str = HOST) -> None:
        entity = AE(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = DEADLINE_S
        for sop_class_uid, transfer_syntax_uid in dict.fromkeys(contexts):
            entity.add_requested_context(sop_class_uid, transfer_syntax_uid)
        self.association: Association = steady(entity.associate(
            HOST, port, ae_title=called, tls_args=(tls, "localhost") if tls else None, bind_address=(source, 0)))
        self._connection: socket.socket | None = self.association.dul.socket.socket

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.association.is_established:
            self.association.release()
        self.close()

    def close(self) -> None:
        """Close the connection; pynetdicom leaves it open when the peer has gone."""
        if self.association.is_alive():
            self.association.join(DEADLINE_S)
        if self._connection is not None:
            self._connection.close()

    @property
    def accepted(self) -> set[tuple[str, str]]:
        """The accepted (SOP class, transfer syntax) pairs."""
        return {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in self.association.accepted_contexts}

    def store(self, raw: Raw, context_class: str | None = None) -> int | None:
        """Send one object and return the status; None when the association ended instead.

        context_class: the abstract syntax of the context to send it on, when not that of the command.
        """
        wanted = (context_class or raw.sop_class_uid, raw.transfer_syntax_uid)
        context = next(c for c in self.association.accepted_contexts
                       if (str(c.abstract_syntax), str(c.transfer_syntax[0])) == wanted)
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = UID(raw.sop_class_uid)
        request.AffectedSOPInstanceUID = UID(raw.sop_instance_uid)
        request.DataSet = None if raw.data is None else BytesIO(raw.data)
        self.association._reactor_checkpoint.clear()
        self.association.dimse.send_msg(request, context.context_id)
        _, answer = self.association.dimse.get_msg(block=True)
        self.association._reactor_checkpoint.set()
        return None if answer is None else int(answer.Status)


def store(port: int, *raws: Raw, called: str = CALLED, calling: str = CALLING, tls: SSLContext | None = None,
          source: str = HOST) -> list[int | None]:
    """Send objects on one association and return their statuses. source: the address to call from."""
    with Link(port, [(r.sop_class_uid, r.transfer_syntax_uid) for r in raws], called, calling, tls, source) as link:
        return [link.store(raw) for raw in raws]


# ---------------------------------------------------------------- DCMTK

def dcmtk(tool: str) -> str:
    """Return the full path of a DCMTK tool: pynetdicom installs scripts of the same names."""
    path = Path("/usr/bin") / tool
    if not path.exists():
        missing("DCMTK")
    return str(path)


def dcmtk_run(tool: str, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK tool to its end; its Nagle delay is switched off."""
    return subprocess.run([dcmtk(tool), *map(str, arguments)], env=_ENVIRONMENT, capture_output=True, text=True,
                          timeout=DEADLINE_S * 3, check=False)


def send(paths: Sequence[Path], host: str, port: int, calling: str = CALLING, called: str = CALLED,
         *options: str) -> subprocess.CompletedProcess[str]:
    """Send files with DCMTK's storescu on one association."""
    return dcmtk_run("storescu", *options, "-aet", calling, "-aec", called, host, port, *paths)


def echo(host: str, port: int, calling: str = CALLING, called: str = CALLED) -> subprocess.CompletedProcess[str]:
    """Send a C-ECHO with DCMTK's echoscu."""
    return dcmtk_run("echoscu", "-aet", calling, "-aec", called, host, port)


# ---------------------------------------------------------------- Orthanc

@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: DICOM port and AE title, and its REST interface."""

    ae_title: str
    port: int
    url: str

    def get(self, path: str) -> Any:
        """Return the JSON of a REST path, for example /studies."""
        return httpx.get(self.url + path, timeout=DEADLINE_S).raise_for_status().json()

    def raw(self, path: str) -> bytes:
        """Return the bytes of a REST path, for example of a file."""
        return httpx.get(self.url + path, timeout=DEADLINE_S).raise_for_status().content

    def post(self, path: str, body: Any) -> Any:
        """Post JSON, or bytes as they are, and return the JSON of the answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.url + path, content=content, timeout=DEADLINE_S * 3).raise_for_status().json()


@contextmanager
def orthanc(folder: Path, modalities: dict[str, tuple[str, int]] | None = None, dicomweb: bool = False,
            more: dict[str, Any] | None = None) -> Iterator[Orthanc]:
    """Run a real Orthanc on free ports; modalities: AE title -> (host, port) that it knows and may send to.

    dicomweb: with the plug-in that serves DICOMweb below /dicom-web; more: of its settings.
    """
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(program).exists():
        missing("Orthanc")
    if dicomweb and not _DICOMWEB.exists():
        missing("Orthanc's DICOMweb plug-in")
    if {name for _, name in socket.if_nameindex()} - {"lo"} and os.environ.get("FIRSTLOOK_OPEN_NETWORK") != "1":
        pytest.skip("Orthanc listens on every interface: run by `make test`, in a network namespace of its own")
    folder.mkdir(parents=True, exist_ok=True)
    dicom, http = free_port(), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "store"), "IndexDirectory": str(folder / "store"),
        "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": True, "StableAge": 1,
        "DicomModalities": {name: [name, *place] for name, place in (modalities or {}).items()},
        "HttpBindAddresses": [HOST], "Plugins": [str(_DICOMWEB)] if dicomweb else [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings | (more or {})))
    with (folder / "orthanc.log").open("w") as log, subprocess.Popen(
            [program, str(folder / "orthanc.json")], env=_ENVIRONMENT, stdout=log, stderr=log) as process:
        try:
            made = Orthanc("ORTHANC", dicom, f"http://{HOST}:{http}")
            wait_until(lambda: _answers(made.url, process, folder))
            yield made
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def _answers(url: str, process: subprocess.Popen[bytes], folder: Path) -> bool:
    if process.poll() is not None:
        pytest.fail("Orthanc ended at once: " + (folder / "orthanc.log").read_text()[-500:])
    try:
        return httpx.get(url + "/system", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
