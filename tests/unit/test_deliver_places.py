"""Settings of the places that results go to: what cannot be used is said, and no secret with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.deliver.places import KINDS
from service.outlets import outlets
from service.report.document import SERIES
from service.settings import InvalidSettings, Settings, load


@pytest.mark.parametrize(("deliver", "told"), [
    ({"stow": [{"name": "a", "url": "https://a/b"}], "folders": [{"name": "a", "folder": "/a"}]}, "same name"),
    ({"stow": [{"name": "a", "url": "http://pacs.example/b"}]}, "https, or http on loopback"),
    ({"stow": [{"name": "a", "url": "https://user:pw@a/b"}]}, "without user"),
    ({"stow": [{"name": "a", "url": "https://a/b", "token": "t", "token_url": "https://a/t", "client_id": "c",
                "client_secret": "s"}]}, "not both"),
    ({"stow": [{"name": "a", "url": "https://a/b", "token_url": "https://a/t"}]}, "go together"),
    ({"stow": [{"name": "a", "url": "https://a/b", "objects": ["xx"]}]}, "one or more of seg, sr, sc"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "fields": {"OBX-3": "x"}}]}, "accepted: fields of MSH"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "fields": {"PV1-2": "{patient.__class__}"}}]}, "unknown placeholder"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "fields": {"PV1-2": "{"}}]}, "write {{ for a brace"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "fields": {"PV1-2": "a|b"}}]}, "neither"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "encoding": "utf-16"}]}, "accepted: utf-8"),
    ({"hl7": [{"name": "a", "host": "a", "port": 1, "priorities": {"now": "S"}}]}, "accepted: codes for stat"),
    ({"webhooks": [{"name": "a", "url": "https://a/b", "secret": "short"}]}, "16"),
])
def test_settings_of_a_target_that_cannot_be_used_say_what_is_accepted(
    deliver: dict[str, object], told: str,
) -> None:
    with pytest.raises(ValueError, match=told):
        Settings.model_validate({"deliver": deliver})


def test_settings_without_any_target_are_settings() -> None:
    assert Settings().deliver.all == ()


def test_a_secret_never_stands_in_what_is_said_of_wrong_settings(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('[[deliver.stow]]\nname = "a"\nurl = "https://a/b"\ntoken = "hush"\ntoken_url = "https://a/t"\n'
                    '[[deliver.webhooks]]\nname = "b"\nurl = "https://a/b"\nsecret = "hush"\n'
                    '[[deliver.hl7]]\nname = "c"\n')
    with pytest.raises(InvalidSettings) as raised:
        load(file, {})
    assert "deliver.webhooks.0.secret" in str(raised.value) and "hush" not in str(raised.value)


def test_every_kind_of_object_that_is_made_may_be_sent() -> None:
    assert KINDS == SERIES


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-of-the-test\n")

    def settings(value: str) -> Settings:
        return Settings.model_validate({"deliver": {"webhooks": [{"name": "a", "url": "https://a/b", "secret": value}]}})

    assert set(outlets(settings(f"file:{tmp_path / 'secret'}"), lambda _: False)) == {"a"}
    for name, content in (("absent", None), ("empty", "\n")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(InvalidSettings, match=r"deliver\.webhooks\.a\.secret"):
            outlets(settings(f"file:{tmp_path / name}"), lambda _: False)


def test_a_certificate_that_cannot_be_used_is_named_with_its_place(tmp_path: Path) -> None:
    place = {"name": "a", "url": "https://a/b", "authorities": str(tmp_path / "absent.pem")}
    with pytest.raises(InvalidSettings, match=r"deliver\.stow\.a\.authorities"):
        outlets(Settings.model_validate({"deliver": {"stow": [place]}}), lambda _: False)
