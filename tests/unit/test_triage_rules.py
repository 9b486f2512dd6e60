"""The table of rules as a file that a site edits, tried on images before it goes live."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli import main
from service.domain.urgency import Urgency
from service.triage.rules import RULES, Facts, Rule, decide
from service.triage.rules_file import InvalidRules, load_rules, rules_as_toml
from tests.builders import ct_series, radiograph, write

NIGHT = """
[[rule]]
name = "radiograph from the emergency ward at night"
urgency = "stat"
modality = "^(CR|DX)$"
location = '\\bED\\b'
hours = [18, 7]
fires = [{ modality = "DX", location = "ED", hour = 23 }, { modality = "CR", location = "the ED", hour = 0 }]
rests = [{ modality = "DX", location = "ED", hour = 7 }, { modality = "CT", location = "ED", hour = 23 }]

[[rule]]
name = "pneumonia before"
urgency = "urgent"
prior = "pneumonia"
"""


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_each_rule_fires_on_its_examples_and_rests_on_the_others(rule: Rule) -> None:
    assert rule.fires and all(rule.matches(facts) for facts in rule.fires)
    assert rule.rests and not any(rule.matches(facts) for facts in rule.rests)


def test_what_is_printed_reads_back_as_the_same_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", "rules"]) == 0
    file = tmp_path / "rules.toml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_rules(file) == RULES
    file.write_text(NIGHT)
    own = load_rules(file)
    file.write_text(rules_as_toml(own))
    assert load_rules(file) == own


def test_every_condition_of_a_rule_must_hold(tmp_path: Path) -> None:
    (file := tmp_path / "rules.toml").write_text(NIGHT)
    rules = load_rules(file)
    assert decide(Facts(modality="DX", location="ED 2", hour=18), rules).urgency is Urgency.STAT
    for facts in (Facts(modality="DX", location="ED", hour=17), Facts(modality="DX", location="ward", hour=20),
                  Facts(modality="MG", location="ED", hour=20), Facts(modality="DX", location="ED")):
        assert decide(facts, rules).reason == "no priority stated"
    assert decide(Facts(prior="pneumonia"), rules).reason == "pneumonia before"


@pytest.mark.parametrize(("text", "told"), [
    ("rule = 1", "tables [[rule]]"),
    ("", "at least one"),
    ("[[rule]]\nname = 'a'\nurgency = 'soon'\ntext = 'x'", "urgency is 'soon'; accepted: stat, urgent, routine, low"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'", "no condition"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\ntext = '('", "text is no regular expression"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\nmodalty = 'CT'", "did you mean 'modality'?"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\nhours = [7, 7]", "two different whole hours"),
    ("[[rule]]\nname = ''\nurgency = 'stat'\ntext = 'x'", "name must be a text"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\ntext = 'x'\nfires = [{ text = 'y' }]", "does not fire on its example"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\ntext = 'x'\nrests = [{ text = 'X' }]", "where it should rest"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\ntext = 'x'\nrests = [{ colour = 'X' }]", "rests must be tables of"),
    ("[[rule]]\nname = 'a'\nurgency = 'stat'\ntext = 'x'\n" * 2, "two rules are named 'a'"),
    ("[[rule", "not valid TOML"),
])
def test_a_file_that_cannot_be_used_is_refused_with_what_is_accepted(tmp_path: Path, text: str, told: str) -> None:
    (file := tmp_path / "rules.toml").write_text(text)
    with pytest.raises(InvalidRules) as refused:
        load_rules(file)
    assert str(file) in str(refused.value) and told in str(refused.value)
    assert main(["triage", "explain", "--rules", str(file), str(tmp_path)]) == 2


def test_rules_are_tried_on_images_before_they_go_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "rules.toml").write_text(NIGHT)
    write([radiograph(CurrentPatientLocation="ED 2"), *ct_series(slices=2, StudyDescription="TRAUMA follow-up")],
          tmp_path / "images")
    (tmp_path / "images" / "note.txt").write_text("no image")
    assert main(["triage", "explain", str(tmp_path / "images"), "--rules", str(file), "--hour", "22"]) == 0
    said = capsys.readouterr().out
    assert "note.txt: not read" in said
    assert "2 images, CT: routine, to be looked at within 3600 s: no priority stated" in said
    assert "1 images, DX: stat, to be looked at within 120 s: radiograph from the emergency ward at night" in said
    assert main(["triage", "explain", str(tmp_path / "images"), "--from", "CT1"]) == 0
    said = capsys.readouterr().out
    assert "CT: stat, to be looked at within 120 s: description says resuscitation or trauma" in said
    assert "also: description says screening or follow-up (low)" in said
    assert "Patient" not in said and "P000" not in said
