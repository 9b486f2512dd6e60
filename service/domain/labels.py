"""The columns of a table of labelled radiographs (`cxr/labels.csv`) that findings stand in, by their code."""

from __future__ import annotations

from service.domain import codes
from service.domain.codes import Code

COLUMN_OF_CODE: dict[Code, str] = {
    codes.NO_FINDING: "no_finding", codes.PNEUMONIA: "Pneumonia", codes.COVID_19_PNEUMONIA: "covid19",
    codes.ATELECTASIS: "Atelectasis", codes.CARDIOMEGALY: "Cardiomegaly", codes.CONSOLIDATION: "Consolidation",
    codes.PULMONARY_EDEMA: "Edema", codes.PLEURAL_EFFUSION: "Effusion", codes.EMPHYSEMA: "Emphysema",
    codes.FIBROSIS: "Fibrosis", codes.HERNIA: "Hernia", codes.INFILTRATE: "Infiltration", codes.MASS: "Mass",
    codes.NODULE: "Nodule", codes.PLEURAL_THICKENING: "Pleural_Thickening", codes.PNEUMOTHORAX: "Pneumothorax",
}
COLUMN_OF_VALUE = {code.value: column for code, column in COLUMN_OF_CODE.items()}
"""The same by code value, as results are kept."""
ABOUT = ("file", "orig", "patient", "group", "source", "sex", "age", "view", "population", "lung_mask")
"""The columns before the labels."""
