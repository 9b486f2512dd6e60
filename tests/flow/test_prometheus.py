"""A real Prometheus scrapes the service, one process or several, by the rules of deploy/; alerts fire where they should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.builders import ct_series, radiograph, uid, write
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, ScriptedPacs, free_port, missing, wait_until
from tests.served import settings_file, try_to_send

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]
DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
TOKEN = "t0ken-of-the-test"


class Prometheus:
    """A running Prometheus and its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}"

    def ready(self) -> bool:
        try:
            return httpx.get(self._url + "/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        answer = httpx.get(self._url + "/api/v1/query", params={"query": expression}, timeout=10)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the one value of an expression, None when there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = httpx.get(self._url + "/api/v1/alerts", timeout=10).raise_for_status().json()["data"]["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, ports: Sequence[int]) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration and rules of deploy/; only targets, token file and waiting times differ."""
    if shutil.which("prometheus") is None:
        missing("prometheus")
    folder.mkdir()
    shutil.copytree(DEPLOY / "rules", folder / "rules")
    for file in (folder / "rules").iterdir():
        tree = yaml.safe_load(file.read_text())
        for rule in (rule for group in tree["groups"] for rule in group["rules"]):
            rule.pop("for", None)
        file.write_text(yaml.safe_dump(tree))
    (folder / "token").write_text(TOKEN)
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "token")
    job["static_configs"] = [{"targets": [f"{HOST}:{port}" for port in ports]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (folder / "log").open("w") as log, subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address={HOST}:{port}"], stdout=log, stderr=log) as process:
        try:
            one = Prometheus(port)
            wait_until(lambda: one.ready() or process.poll() is not None, 60)
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            yield one
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, web={"port": 0, "access_token": TOKEN}) as one:
        yield one


def test_prometheus_reads_what_became_of_studies_and_an_alert_fires(house: Hospital, tmp_path: Path) -> None:
    with prometheus(tmp_path / "prometheus", [house.app.web_port]) as seen:
        wait_until(lambda: seen.value('up{job="firstlook"}') == 1, 30)
        house.send(*ct_series(slices=15))
        house.send(radiograph())
        house.send(radiograph(patient=3, ViewPosition="LL"))
        for patient in (1, 2, 3):
            house.delivered(uid(patient, 1))
        wait_until(lambda: seen.value('sum(firstlook_deliveries_total{outcome="stored"})') == 6, 30)
        wait_until(lambda: seen.value('firstlook_refusals_total{reason="lateral_view"}') == 1, 30)
        assert seen.value('sum(firstlook_instances_received_total{outcome="stored"})') == 17
        assert seen.value("sum(firstlook_time_to_notification_seconds_count)") == 2
        assert (seen.value('firstlook_inference_batch_images_sum{bundle="tiny-ct"}') or 0) >= 15
        assert seen.value('firstlook_finding_probability_count{bundle="tiny-cxr"}') == 1
        assert {r["metric"]["stage"] for r in seen.query("firstlook_stage_duration_seconds_count")} == {
            "decode", "infer", "report", "deliver"}
        assert "FirstlookDeliveryParked" not in seen.firing() and "FirstlookDown" not in seen.firing()
        house.pacs.refuse(0x0122)  # SOP Class not supported: for good
        house.send(radiograph(patient=4))
        wait_until(lambda: "FirstlookDeliveryParked" in seen.firing(), 60)
        assert "FirstlookJobsParked" not in seen.firing()


@contextmanager
def process_of(role: str, settings: Path, folder: Path, port: int, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one role as a process and wait until its own health page says that it is ready; it is killed at the end."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")}
    name = "FIRSTLOOK_WEB__PORT" if role == "web" else "FIRSTLOOK_MONITOR__PORT"
    log = folder / f"{role}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "service.cli", role, "--settings", str(settings)],
                                   stdout=out, stderr=out, env=plain | {name: str(port)} | environ)

    def ready() -> bool:
        try:
            return httpx.get(f"http://{HOST}:{port}/health/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(lambda: ready() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()[-2000:]
        yield process
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.alone
def test_several_processes_add_up_and_a_worker_that_is_gone_is_told(tmp_path: Path) -> None:
    ports = dict(zip(("listen", "work", "second", "web"), (free_port() for _ in range(4)), strict=True))
    dicom = free_port()
    with ScriptedPacs(tmp_path / "pacs") as pacs, ExitStack() as stack:
        settings = settings_file(tmp_path, pacs, dicom, ports["web"])
        settings.write_text(settings.read_text().replace("[web]", f"[web]\naccess_token = {json.dumps(TOKEN)}"))
        stack.enter_context(process_of("listen", settings, tmp_path, ports["listen"]))
        workers = [stack.enter_context(process_of("work", settings, tmp_path, ports[one])) for one in ("work", "second")]
        stack.enter_context(process_of("web", settings, tmp_path, ports["web"]))
        assert httpx.get(f"http://{HOST}:{ports['listen']}/metrics").status_code == 401
        assert httpx.get(f"http://{HOST}:{ports['listen']}/", auth=("x", TOKEN)).status_code == 404
        seen = stack.enter_context(prometheus(tmp_path / "prometheus", list(ports.values())))
        for patient in range(1, 5):
            assert try_to_send(dicom, write([radiograph(patient=patient)], tmp_path / str(patient)))
        wait_until(lambda: seen.value('sum(firstlook_deliveries_total{outcome="stored"})') == 8, 60)
        wait_until(lambda: seen.value("count(up == 1)") == 4, 30)  # a scrape may time out on a busy machine
        assert seen.value('sum(firstlook_instances_received_total{outcome="stored"})') == 4
        assert seen.value('sum(firstlook_jobs_ended_total{kind="infer",outcome="done"})') == 4
        assert seen.value("count(firstlook_last_received_timestamp_seconds > 0)") == 4, "each process reads the database"
        assert seen.value('count(firstlook_loop_last_turn_timestamp_seconds{loop="infer"})') == 2
        assert not {"FirstlookDown", "FirstlookWorkerDown", "FirstlookLoopStuck"} & seen.firing()
        workers[0].kill()
        wait_until(lambda: "FirstlookDown" in seen.firing(), 30)
        assert "FirstlookWorkerDown" not in seen.firing(), "another one still works"
        workers[1].kill()
        wait_until(lambda: "FirstlookWorkerDown" in seen.firing(), 60)
        assert try_to_send(dicom, write([radiograph(patient=9)], tmp_path / "9"))
        wait_until(lambda: seen.value('max(firstlook_studies_open{state="receiving"})') == 1, 60)
