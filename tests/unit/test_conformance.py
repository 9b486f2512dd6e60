"""The conformance statement: its examples are objects without fault, its tables hold what the code holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.conformance import tables
from service.conformance.dump import attributes, tree
from service.conformance.samples import of_ct, of_radiograph, of_refusal
from service.conformance.statement import statement
from service.deliver.places import KINDS
from service.domain import codes
from service.errors import Reason
from service.receive.policy import contexts
from service.report.document import SERIES
from tests.contracts import gate


@pytest.mark.parametrize("make", [of_ct, of_radiograph, of_refusal])
def test_every_example_is_an_object_without_fault(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number, made in enumerate(make()):
        path = tmp_path / f"{made.kind}{number}.dcm"
        made.dataset.save_as(path, enforce_file_format=True)
        assert gate.dciodvfy(path, gate.ALLOWED_OF_STATES if made.kind == "pr" else gate.ALLOWED) == []
        assert [p for p in gate.class_is(made.dataset, made.kind) if "Device UID" not in p] == []


def test_every_kind_of_object_is_described_exemplified_and_can_be_delivered() -> None:
    assert tuple(tables.OF_KIND) == SERIES == KINDS
    assert {kind: uid for kind, (uid, _, _) in tables.OF_KIND.items()} == gate.CLASSES
    assert {m.kind for m in (*of_ct(), *of_radiograph())} == set(SERIES)


def test_examples_are_the_same_every_time() -> None:
    assert statement() == statement()


def test_tables_hold_every_context_and_every_code() -> None:
    listed = tables.accepted()
    assert all(str(context.abstract_syntax) in listed for context in contexts())
    concepts = tables.concepts()
    assert all(f"| {c.value} | {c.scheme} | {c.meaning} |" in concepts for c in codes.BY_NAME.values())


def test_every_reason_and_every_attribute_that_is_read_is_listed() -> None:
    assert all(f"| `{reason}` | {reason.sentence} |" in tables.reasons() for reason in Reason)
    listed = tables.attributes_read()
    for keyword in ("ImagePositionPatient", "ViewCodeSequence", "ContrastBolusAgent", "RequestedProcedurePriority"):
        assert f"| {keyword} |" in listed


def test_a_table_keeps_its_columns_whatever_a_cell_holds() -> None:
    assert tables.table(("a", "b"), [("x|y", 1)]).splitlines()[-1] == "| x\\|y | 1 |"


def test_the_tree_of_a_report_shows_relations_values_units_and_regions() -> None:
    report = next(m.dataset for m in of_radiograph() if m.kind == "sr")
    lines = [line.strip() for line in tree(report)]
    assert any(line.startswith('contains NUM: (122157, DCM, "Probability") = 83.0 (%, UCUM, "Percent")') for line in lines)
    assert any('SCOORD: (111030, DCM, "Image Region") = POLYLINE, 5 points' in line for line in lines)
    assert any('(373572006, SCT, "Clinical finding absent") = (60046008, SCT, "Pleural effusion")' in line for line in lines)


def test_attributes_show_bulk_data_by_length_and_of_sequences_the_first_item() -> None:
    picture = next(m.dataset for m in of_radiograph() if m.kind == "sc")
    lines = list(attributes(picture))
    assert any(line.endswith("bytes") and "PixelData" in line for line in lines)
    assert "(0008,2112) SourceImageSequence: 1 items" in lines
