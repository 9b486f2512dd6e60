"""What deploy/ and the Dockerfile say agrees with the settings, the metrics and each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings, load
from tests.peers import missing

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
PROMETHEUS = ROOT / "deploy" / "prometheus"
SECRETS = {"FIRSTLOOK_ACCESS_TOKEN": "t0ken", "POSTGRES_PASSWORD": "pa55", "ORTHANC_PASSWORD": "0rthanc",
           "GRAFANA_PASSWORD": "gr4fana"}


def _filled(value: str) -> str:
    """Put the secrets in, as compose does; a variable without a value and without a default is an error."""
    def fill(found: re.Match[str]) -> str:
        name, mark = found[1], found[2] or ""
        return SECRETS.get(name, mark.removeprefix(":-"))

    return re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", fill, value)


def _image_environment() -> dict[str, str]:
    return dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE))


def _settings() -> Settings:
    asked = COMPOSE["services"]["firstlook"]["environment"]
    return load(None, _image_environment() | {name: _filled(value) for name, value in asked.items()})


def test_the_environment_of_the_image_is_known_to_the_settings() -> None:
    environment = _image_environment()
    assert set(environment) == {"FIRSTLOOK_INFER__MODELS_DIR", "FIRSTLOOK_STORE__DATA_DIR", "FIRSTLOOK_RECEIVE__HOST"}
    settings = load(None, environment)
    assert f"COPY models {settings.infer.models_dir}" in DOCKERFILE
    assert f"VOLUME {settings.store.data_dir}" in DOCKERFILE
    assert f"EXPOSE {settings.receive.port} {settings.web.port}" in DOCKERFILE
    assert f"127.0.0.1:{settings.web.port}/health/live" in DOCKERFILE


def test_the_environment_of_compose_is_known_to_the_settings() -> None:
    settings = _settings()
    assert settings.web.access_token == SECRETS["FIRSTLOOK_ACCESS_TOKEN"]
    assert settings.database_url == "postgresql+psycopg://firstlook:pa55@postgres:5432/firstlook"
    ports = COMPOSE["services"]["firstlook"]["ports"]
    assert set(ports) == {f"127.0.0.1:{p}:{p}" for p in (settings.web.port, settings.receive.port)}
    gpu = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yaml").read_text())["services"]["firstlook"]["environment"]
    assert load(None, gpu).infer.device == "cuda"


def test_firstlook_and_the_example_pacs_know_each_other() -> None:
    settings = _settings()
    pacs = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    (target,) = settings.deliver.targets
    assert (target.ae_title, target.host, target.port) == (pacs["DicomAet"], "pacs", pacs["DicomPort"])
    known = pacs["DicomModalities"]["firstlook"]
    assert (known["AET"], known["Host"], known["Port"]) == (settings.receive.ae_title, "firstlook", settings.receive.port)
    assert [peer.ae_title for peer in settings.receive.peers] == [pacs["DicomAet"]]
    script = (ROOT / "deploy" / "orthanc" / "route.lua").read_text()
    assert f'origin["RemoteAet"] ~= "{settings.receive.ae_title}"' in script


def test_no_secret_has_a_default_and_no_port_is_open_to_the_network() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in text, name
        assert f"${{{name}:-" not in text, name
        assert re.search(rf"^{name}=$", (ROOT / "deploy" / "env.example").read_text(), re.M), name
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["healthcheck"]["test"]
        assert ":latest" not in service["image"]


def test_the_image_installs_only_what_is_locked_and_does_not_run_as_root() -> None:
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    for extra in ("cpu", "gpu", "build"):
        assert (ROOT / "requirements" / f"{extra}.lock").is_file()
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.M)
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}" in DOCKERFILE
    assert set(re.findall(r"\w+://[^:/]+", DOCKERFILE)) == {"http://127.0.0.1"}, "no registry or mirror is named"


def test_the_builder_gets_what_the_image_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M):
        for source in line.split()[:-1]:
            kept = "requirements/*.lock" if source.startswith("requirements/") else source
            assert f"!{kept}\n" in ignored, source


def test_prometheus_scrapes_the_page_with_the_token() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"firstlook:{_settings().web.port}"]}]
    name = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert COMPOSE["secrets"][name] == {"environment": "FIRSTLOOK_ACCESS_TOKEN"}
    assert name in COMPOSE["services"]["prometheus"]["secrets"]


@pytest.mark.peer
def test_promtool_accepts_configuration_and_rules(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        missing("promtool")
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    token = tmp_path / "token"
    token.write_text("t0ken")
    config = tmp_path / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text().replace("/run/secrets/firstlook_access_token", str(token)))
    done = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == len(list((PROMETHEUS / "rules").iterdir()))
