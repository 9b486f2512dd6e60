"""`firstlook simulate`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from service import DISCLAIMER, cli
from service.infer.catalogue import Catalogue
from service.operating import as_served
from service.settings import Settings
from service.simulate.department import ASSUMED, example_department
from service.simulate.groups import TOLD, WITHOUT

SHORT = ["--replications", "4", "--weeks", "1"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report goes where the command is run."""
    monkeypatch.chdir(tmp_path)


def test_it_prints_waits_under_each_order_and_says_research_use_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["simulate", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "What the order of the reading list changes" in Path("effect.html").read_text(encoding="utf-8")
    for words in ("first come", "flag only", "our order", TOLD, "cxr stat", "4 replications", DISCLAIMER):
        assert words in said, words


def test_the_same_seed_gives_the_same_result_and_another_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("7", "7", "8"):
        assert cli.main(["simulate", *SHORT, "--json", "--seed", seed]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert not Path("effect.html").exists()
    assert said[0] == said[1] != said[2] and said[0]["seed"] == 7 and said[0]["notice"] == DISCLAIMER
    rows = {row["group"]: row for row in said[0]["waits_min"]}
    assert rows[TOLD]["ours"]["mean"][0] < rows[TOLD]["ordered"]["mean"][0] < rows[TOLD]["fifo"]["mean"][0]
    assert rows[TOLD]["flag"]["gain"] == [0, 0, 0] and rows[WITHOUT]["ours"]["longest"][0] > 0


def test_a_department_of_ones_own_is_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('name = "Ours"\n[modality.mr]\nper_weekday = 40\nreading_min = 15\n')
    assert cli.main(["simulate", "--department", str(file), *SHORT, "--json", "--html", "page.html"]) == 0
    assert "Ours" in Path("page.html").read_text(encoding="utf-8")
    told = json.loads(capsys.readouterr().out)
    assert told["department"]["name"] == "Ours" and told["notification_s"] == []


def test_readers_that_cannot_keep_up_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "busy.toml"
    file.write_text("[modality.cxr]\nper_weekday = 2000\n")
    assert cli.main(["simulate", "--department", str(file), *SHORT]) == 0
    assert "the readers cannot keep up" in capsys.readouterr().out


def test_a_department_to_which_nobody_comes_ends_in_one_line_and_one_of_few_in_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "quiet.toml"
    file.write_text("[modality.cxr]\nper_weekday = 0\n")
    assert cli.main(["simulate", "--department", str(file), *SHORT]) == 1
    assert capsys.readouterr().err.startswith("firstlook: no study came in the simulated weeks;")
    file.write_text("[modality.cxr]\nper_weekday = 1\n")
    assert cli.main(["simulate", "--department", str(file), *SHORT]) == 0
    assert "nan" not in capsys.readouterr().out and "nan min" not in Path("effect.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("text", "words"), [("nme = 1", "did you mean 'name'"), ("x", "not valid TOML")])
def test_a_wrong_department_ends_with_2_and_one_line(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    assert cli.main(["simulate", "--department", str(file)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_check_shows_each_case_exact_and_simulated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["simulate", "--check", "--replications", "6"]) == 0
    said = capsys.readouterr().out
    assert "48.411" in said and "10.787" in said and "all as it should be" in said and DISCLAIMER in said
    assert "MISSED" not in said and not Path("effect.html").exists()


@pytest.mark.parametrize("arguments", [["--replications", "1"], ["--weeks", "0"], ["--seed", "x"]])
def test_wrong_numbers_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", *arguments])
    assert ended.value.code == 2


def test_the_bundles_in_use_bring_their_measured_figures_and_the_settings_their_times() -> None:
    settings = Settings.model_validate({"triage": {"longest_reading_wait_s": 1234.0, "stat_s": 77.0},
                                        "assemble": {"quiet_ct_s": 33.0, "start_early": False}})
    department, notes = as_served(example_department(), settings, Catalogue.load(settings.infer.models_dir))
    cxr, ct = department.modalities
    pneumonia = next(d for d in cxr.detectors if (d.bundle, d.finding) == ("cxr-pattern", "pneumonia"))
    figures = json.loads((settings.infer.models_dir / "cxr-pattern/figures.json").read_text())["cross_validation"]["figures"]
    (measured,) = [f["value"] for f in figures
                   if (f["name"], f["of"], f["subset"]) == ("sensitivity", "pneumonia", "all")]
    assert pneumonia.sensitivity == measured and "measured out of fold" in pneumonia.basis
    assert {d.bundle for d in cxr.detectors} == set(settings.infer.cxr_bundles)
    assert [(d.bundle, d.finding, d.basis) for d in ct.detectors] == [("ct-lung-infection", "infection", ASSUMED)]
    assert (department.longest_wait_s, department.targets_s[0], ct.quiet_s, notes) == (1234.0, 77.0, 33.0, ())
    uncapped = Settings.model_validate({"triage": {"longest_reading_wait_s": 0}})
    early, (note,) = as_served(example_department(), uncapped, Catalogue.load(settings.infer.models_dir))
    assert early.modalities[1].quiet_s == settings.assemble.early_ct_s
    assert early.longest_wait_s == 8 * 3600 and "the service's own list has no cap now" in note


def test_a_finding_without_any_figures_is_left_out_and_named() -> None:
    settings = Settings.model_validate({"infer": {"ct_bundles": ("ct-lung-infection", "ct-pattern")}})
    base = example_department()
    bare = replace(base, modalities=tuple(replace(m, detectors=()) for m in base.modalities))
    department, notes = as_served(bare, settings, Catalogue.load(settings.infer.models_dir))
    assert department.modalities[1].detectors == ()
    assert any("ct-lung-infection: no figures of studies for infection" in note for note in notes)
