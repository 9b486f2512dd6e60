"""Every coded concept that this service writes, in one table.

A concept is (value, scheme, meaning) as in PS3.3 Table 8.8-1. The test compares each with pydicom's dictionaries, or
finds it in a reviewed literal list: validators do not notice a wrong meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIVATE_SCHEME = "99FIRSTLOOK"


@dataclass(frozen=True)
class Code:
    """One coded concept: code value, coding scheme designator, code meaning."""

    value: str
    scheme: str
    meaning: str


# Findings (qualitative, SNOMED CT and DCM)
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
COVID_19_PNEUMONIA = Code("882784691000119100", "SCT", "Pneumonia caused by SARS-CoV-2")
NO_FINDING = Code("408573005", "SCT", "Imaging result normal")
OPACITY = Code("112001", "DCM", "Opacity")
GROUND_GLASS_OPACITY = Code("112120", "DCM", "Ground glass opacity")
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
ATELECTASIS = Code("46621007", "SCT", "Atelectasis")
CARDIOMEGALY = Code("8186001", "SCT", "Cardiomegaly")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion")
INFILTRATE = Code("112121", "DCM", "Infiltrate")
MASS = Code("4147007", "SCT", "Mass")
NODULE = Code("27925004", "SCT", "Nodule")
PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax")
PULMONARY_EDEMA = Code("19242006", "SCT", "Pulmonary edema")
EMPHYSEMA = Code("87433001", "SCT", "Pulmonary emphysema")
FIBROSIS = Code("112674009", "SCT", "Fibrosis")
PLEURAL_THICKENING = Code("PLEURALTHICK", PRIVATE_SCHEME, "Pleural thickening")
HERNIA = Code("39839004", "SCT", "Diaphragmatic hernia")

# How a finding is said (AIR Rev 1.3: absent findings go under their own concept name)
FINDING = Code("121071", "DCM", "Finding")
FINDING_ABSENT = Code("373572006", "SCT", "Clinical finding absent")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
PROBABILITY = Code("122157", "DCM", "Probability")
COMMENT = Code("121106", "DCM", "Comment")

# Anatomy and sides
LUNG = Code("39607008", "SCT", "Lung")
UPPER_ZONE = Code("281392002", "SCT", "Upper zone of lung")
MIDDLE_ZONE = Code("281393007", "SCT", "Middle zone of lung")
LOWER_ZONE = Code("281394001", "SCT", "Lower zone of lung")
HEART = Code("80891009", "SCT", "Heart")
PLEURA = Code("3120008", "SCT", "Pleura")
DIAPHRAGM = Code("5798000", "SCT", "Diaphragm")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
BILATERAL = Code("51440002", "SCT", "Bilateral")

# Segments
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")

# Measurements
VOLUME = Code("118565006", "SCT", "Volume")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
MEAN_ATTENUATION = Code("112181", "DCM", "Mean Attenuation Coefficient")
PERCENT_INVOLVED = Code("PCTINVOLVED", PRIVATE_SCHEME, "Percent of lung involved")
SEVERITY_SCORE = Code("SEVERITY25", PRIVATE_SCHEME, "Extent score by five lung zones, range 0 to 25")

# Units (UCUM)
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "Percent")
NO_UNITS = Code("1", "UCUM", "no units")

# Processing status (CID 6047) and image quality (CID 7036)
SUCCEEDED_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
SUCCEEDED_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
FAILED_WITHOUT_FINDINGS = Code("111245", "DCM", "No algorithms succeeded; without findings")
PROCESSING_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
DIAGNOSTIC_QUALITY = Code("RID12", "RADLEX", "Diagnostic quality")
LIMITED_QUALITY = Code("RID13", "RADLEX", "Limited quality")
NON_DIAGNOSTIC_QUALITY = Code("RID14", "RADLEX", "Non-diagnostic quality")
REASON_NOT_ASSESSED = Code("NOTASSESSED", PRIVATE_SCHEME, "Reason the study was not assessed")
QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")

# Procedures reported (LOINC)
CT_CHEST = Code("24627-2", "LN", "CT Chest Report")
XR_CHEST_VIEWS = Code("30745-4", "LN", "XR Chest Views")
XR_CHEST = Code("36643-5", "LN", "XR Chest 2 Views")
XR_CHEST_AP = Code("36572-6", "LN", "XR Chest AP")

# Algorithm
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

BY_NAME: dict[str, Code] = {name: code for name, code in list(globals().items()) if isinstance(code, Code)}
"""Every code of this module by its constant's name; a manifest names its findings this way."""

SITES: dict[Code, Code] = {
    CARDIOMEGALY: HEART, PLEURAL_EFFUSION: PLEURA, PNEUMOTHORAX: PLEURA, PLEURAL_THICKENING: PLEURA, HERNIA: DIAPHRAGM}
"""Where a finding lies when it is not the lung itself."""
