"""Settings: file and environment, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import InvalidSettings, Settings, load


def test_environment_goes_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "firstlook.toml"
    file.write_text(
        '[receive]\nport = 11113\nae_title = "ONE"\n[[receive.peers]]\nae_title = "CT1"\naddress = "10.0.0.0/8"\n')
    settings = load(file, {"FIRSTLOOK_RECEIVE__PORT": "11114", "OTHER": "x"})
    assert (settings.receive.port, settings.receive.ae_title, settings.receive.peers[0].ae_title) == (11114, "ONE", "CT1")


def test_arrays_can_come_from_the_environment() -> None:
    value = '[{name = "pacs", ae_title = "PACS", host = "pacs", port = 104}]'
    assert load(None, {"FIRSTLOOK_DELIVER__TARGETS": value}).deliver.targets[0].port == 104


@pytest.mark.parametrize(("environ", "words"), [
    ({"FIRSTLOOK_RECEIVE__PRT": "1"}, ["receive.prt", "unknown key", "did you mean 'port'"]),
    ({"FIRSTLOOK_RECIEVE__PORT": "1"}, ["recieve", "did you mean 'receive'"]),
    ({"FIRSTLOOK_RECEIVE__PORT": "high"}, ["receive.port", "integer", "'high'"]),
    ({"FIRSTLOOK_RECEIVE__PORT": "70000"}, ["receive.port", "65535", "70000"]),
    ({"FIRSTLOOK_INFER__DEVICE": "gpu"}, ["infer.device", "auto|cpu|cuda", "'gpu'"]),
    ({"FIRSTLOOK_RECEIVE__AE_TITLE": "   "}, ["receive.ae_title", "1 to 16 characters", "'   '"]),
    ({"FIRSTLOOK_RECEIVE__AE_TITLE": "A" * 17}, ["receive.ae_title", "1 to 16 characters"]),
    ({"FIRSTLOOK_REPORT__SERIES_DESCRIPTION_PREFIX": "AI\\X"}, ["report.series_description_prefix", "no backslash"]),
    ({"FIRSTLOOK_REPORT__INSTITUTION_NAME": "H" * 65}, ["report.institution_name", "at most 64"]),
    ({"FIRSTLOOK_DELIVER__TARGETS": '[{name = "a"}]'}, ["deliver.targets.0.host", "required"]),
    ({"FIRSTLOOK_DELIVER__TARGETS": "[oops"}, ["FIRSTLOOK_DELIVER__TARGETS", "not a TOML array"]),
    ({"FIRSTLOOK_WEB__HOST": "0.0.0.0"}, ["web.host", "web.login", "web.access_token", "patient data"]),
    ({"FIRSTLOOK_RECEIVE__PEERS": '[{ae_title = "A", address = "300.1.1.1"}]'}, ["receive.peers.0.address", "300.1.1.1"]),
    ({"FIRSTLOOK_WEB__PROXIES": '["10.0.0.300"]'}, ["web.proxies", "10.0.0.300"]),
    ({"FIRSTLOOK_WEB__LOGIN": "maybe"}, ["web.login", "'required'", "'maybe'"]),
])
def test_a_mistake_stops_with_the_field_the_value_and_what_is_accepted(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(None, environ)
    for word in words:
        assert word in str(caught.value)


def test_beyond_this_machine_a_login_is_as_good_as_a_token() -> None:
    assert load(None, {"FIRSTLOOK_WEB__HOST": "0.0.0.0", "FIRSTLOOK_WEB__LOGIN": "required"}).web.host == "0.0.0.0"
    for login in ("auto", "off"):
        with pytest.raises(InvalidSettings, match="patient data"):
            load(None, {"FIRSTLOOK_WEB__HOST": "0.0.0.0", "FIRSTLOOK_WEB__LOGIN": login})


def test_two_targets_of_one_name_are_refused() -> None:
    one = '{name = "a", ae_title = "A", host = "h", port = 104}'
    with pytest.raises(InvalidSettings, match="same name"):
        load(None, {"FIRSTLOOK_DELIVER__TARGETS": f"[{one}, {one}]"})


@pytest.mark.parametrize("text", ["[receive\n", "\xff"])
def test_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"bad\.toml: not valid TOML"):
        load(file, {})
    with pytest.raises(InvalidSettings, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml", {})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().receive.port = 1
