"""Other bundles read a kind of study while the service runs, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import cli
from tests.builders import radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.tiny_bundles import threshold_ct
from tests.unit.test_models_verify import Parts

QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3}


def readers(house: Hospital, patient: int) -> list[str]:
    """Send a radiograph of a patient and return which bundles read it."""
    house.send(radiograph(patient=patient))
    return [b["name"] for b in house.delivered(uid(patient, 1)).summary["bundles"]]


def whole_bundle(folder: Path, out: Path) -> None:
    """Make a bundle with golden case and card, as `firstlook models import` does."""
    (folder / f"parts-{out.name}").mkdir()
    parts = Parts(folder / f"parts-{out.name}")
    parts.out = out
    parts.take_in()


def test_bundles_are_switched_and_rolled_back_without_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        file = tmp_path / "settings.toml"
        file.write_text(f'[store]\ndata_dir = "{house.app.data_dir}"\n[infer]\nmodels_dir = "{models}"\n'
                        'ct_bundles = ["tiny-ct"]\ncxr_bundles = ["tiny-cxr"]\ncxr_gate = ""\ncxr_lungs = ""\n')

        def command(*words: str) -> int:
            return cli.main(["models", *words, "--settings", str(file)])

        assert readers(house, 2) == ["tiny-cxr"]
        assert command("rollback", "cxr") == 1 and "nothing to roll back" in capsys.readouterr().err
        for name in ("next-cxr", "other-cxr"):  # while the service runs
            whole_bundle(tmp_path, models / name)
        assert command("activate", "cxr", "next-cxr", "other-cxr") == 0
        assert capsys.readouterr().out.startswith("cxr: next-cxr, other-cxr\n")
        assert readers(house, 3) == ["next-cxr", "other-cxr"]
        assert command("activate", "cxr", "next-cxr") == 0 and readers(house, 4) == ["next-cxr"]
        assert command("list") == 0 and "next-cxr" in capsys.readouterr().out
        assert command("rollback", "cxr") == 0 and readers(house, 5) == ["next-cxr", "other-cxr"]
        assert command("rollback", "cxr") == 0 and readers(house, 6) == ["tiny-cxr"]
        assert command("rollback", "cxr") == 1


def test_what_cannot_read_is_not_switched_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    threshold_ct(models, "broken-ct", side_px=64, window_hu=[-1100, 1000])
    (file := tmp_path / "settings.toml").write_text(
        f'[store]\ndata_dir = "{tmp_path / "data"}"\n[infer]\nmodels_dir = "{models}"\n')
    (tmp_path / "data").mkdir()

    def activate(*words: str) -> tuple[int, str]:
        code = cli.main(["models", "activate", *words, "--settings", str(file)])
        return code, capsys.readouterr().err

    assert activate("cxr", "tiny-ct") == (2, "firstlook: 'tiny-ct' has the task ct-segmentation; accepted for cxr: "
                                             "cxr-classification\n")
    assert activate("cxr", "tiny-cxr", "tiny-cxr")[0] == 2
    code, said = activate("ct", "absent")
    assert code == 2 and "bundle 'absent' is not installed; installed:" in said
    (models / "broken-ct" / "model.onnx").write_bytes(b"no model")
    code, said = activate("ct", "broken-ct")
    assert code == 2 and "sha256" in said
    assert cli.main(["models", "activate", "ct", "--settings", str(file)]) == 0
    assert capsys.readouterr().out == "ct: ct-lung-infection\n"
