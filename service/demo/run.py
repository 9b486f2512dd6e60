"""The demo: a PACS, the service and real studies on this machine, and what becomes of each study."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import httpx
from rich.console import Console
from rich.live import Live

from service import DISCLAIMER
from service.access import accounts
from service.access.links import make_link
from service.deliver.cstore import CStoreTarget
from service.demo.followed import Followed
from service.demo.orthanc import OrthancPacs
from service.demo.pacs import DemoPacs, Received
from service.demo.send import studies_in
from service.demo.show import outcome_table, progress_table, results_table, worklist_table
from service.domain.person import Role
from service.errors import FirstlookError
from service.store.database import Database

STUDIES = Path(__file__).parent / "studies"
_LINK_S, _START_S = 43_200.0, 180.0
_MARK = "MADE-BY-FIRSTLOOK-DEMO"
OUR_AE, SENDER_AE, PACS_AE = "FIRSTLOOK", "DEMO_MODALITY", "DEMO_PACS"


class Pacs(Protocol):
    """A PACS that can be started and asked what it holds."""

    @property
    def port(self) -> int:
        """Its DICOM port."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""

    def received(self) -> list[Received]:
        """Return what it holds."""


def demo(output: Path, pacs_kind: str, once: bool, timeout_s: float) -> int:
    """Run the demo; return 0 when every study ended with its result in the PACS, 1 when something is missing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by `kill`, it still stops what it started
    console = Console()
    output = _fresh(output.resolve())
    console.print(f"[bold]firstlook demo[/]  {DISCLAIMER}")
    with ExitStack() as stack:
        pacs = _pacs(pacs_kind, output / "pacs")
        stack.callback(pacs.stop)
        pacs.start()
        console.print(f"PACS {pacs_kind} on 127.0.0.1:{pacs.port}; images, results and logs go to {output}")
        dicom_port, web_port = _free_port(), _free_port(8042)
        stack.enter_context(_service(output, pacs.port, dicom_port, web_port))
        key, token = _let_in(output)
        url = f"http://127.0.0.1:{web_port}"
        followed = [Followed(uid, files) for uid, files in _arrival_order(studies_in([STUDIES]))]
        with httpx.Client(base_url=url, timeout=10, headers={"Authorization": f"Bearer {token}"}) as http:
            _follow(console, http, dicom_port, followed, timeout_s)
            missing = _tell(console, http, followed, pacs.received())
        if not once:
            console.print("The worklist stays until Ctrl-C. This link lets you in once:\n"
                          f"[bold]{url}/login/once?key={key}[/]", soft_wrap=True)
            _wait_for_interrupt()
    return 1 if missing else 0


def _fresh(output: Path) -> Path:
    """Make the folder anew. Raises: OSError for a folder that holds anything and was not made by an earlier demo."""
    if output.exists() and any(output.iterdir()) and not (output / _MARK).is_file():
        raise OSError(f"--output {output}: the folder holds other files; name a new or an empty one")
    if output.exists():
        for entry in output.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    output.mkdir(parents=True, exist_ok=True)
    (output / _MARK).write_text("Made by `firstlook demo`, which empties this folder each time.\n", encoding="utf-8")
    return output


def _pacs(kind: str, folder: Path) -> Pacs:
    if kind == "orthanc":
        return OrthancPacs(PACS_AE, folder, _free_port(), _free_port(), OUR_AE)
    return DemoPacs(PACS_AE, folder)


def _arrival_order(studies: dict[str, list[Path]]) -> list[tuple[str, list[Path]]]:
    """The CT first, then the radiographs by name: unlike their urgency, so that the queue has something to do."""
    return sorted(studies.items(), key=lambda item: (-len(item[1]), item[1][0].name))


@contextmanager
def _service(output: Path, pacs_port: int, dicom_port: int, web_port: int) -> Iterator[None]:
    """Run `firstlook serve` as a process of its own, with a settings file that the reader may look at."""
    settings = output / "firstlook.toml"
    settings.write_text(f"""# Written by `firstlook demo`. Quiet times are short, so that nobody has to wait for a demo.
[store]
data_dir = "{output.as_posix()}/data"
[receive]
ae_title = "{OUR_AE}"
port = {dicom_port}
peers = [{{ ae_title = "{SENDER_AE}", address = "127.0.0.1" }}]
min_free_bytes = 0
[assemble]
quiet_cxr_s = 0.5
quiet_ct_s = 1.0
[web]
port = {web_port}
refresh_s = 1
login = "required"
[[deliver.targets]]
name = "pacs"
ae_title = "{PACS_AE}"
host = "127.0.0.1"
port = {pacs_port}
""", encoding="utf-8")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")}
    with (output / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--settings", str(settings)], stdout=log, stderr=log, env=environ)
    try:
        _wait_until_ready(process, web_port, output / "service.log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], web_port: int, log: Path) -> None:
    ends_at = time.monotonic() + _START_S
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{web_port}/health/ready", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise OSError("the service did not start; the end of its log:\n" + "\n".join(tail))


def _let_in(output: Path) -> tuple[str, str]:
    """Make an account that a link lets in once, and one for the demo itself; return key and token."""
    database = Database(f"sqlite:///{output / 'data' / 'firstlook.db'}")
    try:
        now = time.time()
        with database.transaction() as session:
            key = make_link(session, accounts.add(session, "demo", Role.ADMINISTRATOR, "", now), now, _LINK_S)
            watcher = accounts.add(session, "demo-command", Role.SERVICE, "", now)
            return key, accounts.issue_token(session, watcher, now, None)
    finally:
        database.close()


def _follow(console: Console, http: httpx.Client, dicom_port: int, followed: list[Followed], timeout_s: float) -> None:
    """Send the studies one after the other and show how each comes along, until all are done or time is up."""
    target = CStoreTarget("service", OUR_AE, "127.0.0.1", dicom_port, SENDER_AE)
    ends_at = time.monotonic() + timeout_s
    with Live(console=console, refresh_per_second=8) as live:
        for study in followed:
            try:
                target.send(study.files)
            except FirstlookError as error:
                study.error = error.detail or error.reason.sentence
            study.sent = True
            _ask(http, followed)
            live.update(progress_table(followed))
        while time.monotonic() < ends_at and not all(f.done or f.error for f in followed):
            _ask(http, followed)
            live.update(progress_table(followed))
            time.sleep(0.2)
        _ask(http, followed)
        live.update(progress_table(followed))


def _ask(http: httpx.Client, followed: list[Followed]) -> None:
    for study in followed:
        if study.sent and not study.done:
            answer = http.get(f"/api/studies/{study.study_instance_uid}")
            study.said = answer.json() if answer.is_success else {}


def _tell(console: Console, http: httpx.Client, followed: list[Followed], held: list[Received]) -> list[str]:
    """Print worklist, objects and times; return what is missing."""
    studies = http.get("/api/worklist").json()["studies"]
    console.print(worklist_table(studies), "")
    console.print(results_table(held), "")
    console.print(outcome_table(followed), "")
    missing = [m for f in followed for m in _missing(f, held)]
    for line in missing:
        console.print(f"[bold red]missing[/] {line}")
    if not missing:
        console.print(f"[bold green]all done[/]  {len(followed)} studies received, looked at, reported and in the PACS")
    return missing


def _missing(study: Followed, held: list[Received]) -> list[str]:
    uid = study.study_instance_uid
    if study.error:
        return [f"{uid}: not taken by the service: {study.error}"]
    if not study.done:
        return [f"{uid}: ended as {study.said.get('state', 'unknown')}, delivery {study.said.get('delivery', 'none')}"]
    if study.said["state"] != "assessed":
        return [f"{uid}: {study.said['state']}: {study.said.get('state_sentence')}"]
    arrived = {h.sop_instance_uid for h in held}
    objects = study.said["objects"]
    gone = [f"{uid}: {o['kind'].upper()} is not in the PACS" for o in objects if o["sop_instance_uid"] not in arrived]
    wanted = {"seg", "sr"} if study.said.get("kind") == "ct" else {"sr"}
    return gone + [f"{uid}: no {k.upper()} was made" for k in wanted - {o["kind"] for o in objects}]


def _free_port(wanted: int = 0) -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
