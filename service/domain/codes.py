"""Every coded concept that this service writes, in one table.

A concept is (value, scheme, meaning) as in PS3.3 Table 8.8-1, and the context group of PS3.16 that it is taken from. The
test compares each with pydicom's dictionaries, or finds it in a reviewed literal list: validators do not notice a wrong
meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PRIVATE_SCHEME = "99FIRSTLOOK"


@dataclass(frozen=True)
class Code:
    """One coded concept: code value, coding scheme designator, code meaning.

    context_group: number of the CID that it is taken from; 0: in none, as the concepts of SNOMED CT and LOINC that PS3.16
    does not list, names of content items that a template gives, and our own.
    """

    value: str
    scheme: str
    meaning: str
    context_group: int = field(default=0, compare=False)


# Findings (qualitative, SNOMED CT and DCM)
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
COVID_19_PNEUMONIA = Code("882784691000119100", "SCT", "Pneumonia caused by SARS-CoV-2")
NO_FINDING = Code("408573005", "SCT", "Imaging result normal", 3209)
OPACITY = Code("112001", "DCM", "Opacity", 6102)
GROUND_GLASS_OPACITY = Code("112120", "DCM", "Ground glass opacity", 6102)
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
ATELECTASIS = Code("46621007", "SCT", "Atelectasis")
CARDIOMEGALY = Code("8186001", "SCT", "Cardiomegaly")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion", 8134)
INFILTRATE = Code("112121", "DCM", "Infiltrate", 6102)
MASS = Code("4147007", "SCT", "Mass", 6102)
NODULE = Code("27925004", "SCT", "Nodule", 6102)
PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax", 6102)
PULMONARY_EDEMA = Code("19242006", "SCT", "Pulmonary edema", 3700)
EMPHYSEMA = Code("87433001", "SCT", "Pulmonary emphysema")
FIBROSIS = Code("112674009", "SCT", "Fibrosis", 6335)
PLEURAL_THICKENING = Code("PLEURALTHICK", PRIVATE_SCHEME, "Pleural thickening")
HERNIA = Code("39839004", "SCT", "Diaphragmatic hernia")

# How a finding is said (AIR Rev 1.3: absent findings go under their own concept name)
FINDING = Code("121071", "DCM", "Finding", 7002)
FINDING_ABSENT = Code("373572006", "SCT", "Clinical finding absent")
FINDING_SITE = Code("363698007", "SCT", "Finding Site", 9000)
LATERALITY = Code("272741003", "SCT", "Laterality", 210)
PROBABILITY = Code("122157", "DCM", "Probability")
DEVICE = Code("121007", "DCM", "Device", 270)
COMMENT = Code("121106", "DCM", "Comment", 12101)

# Anatomy and sides
LUNG = Code("39607008", "SCT", "Lung", 6100)
UPPER_ZONE = Code("281392002", "SCT", "Upper zone of lung", 6124)
MIDDLE_ZONE = Code("281393007", "SCT", "Middle zone of lung", 6124)
LOWER_ZONE = Code("281394001", "SCT", "Lower zone of lung", 6124)
HEART = Code("80891009", "SCT", "Heart", 6100)
PLEURA = Code("3120008", "SCT", "Pleura", 7151)
DIAPHRAGM = Code("5798000", "SCT", "Diaphragm", 7151)
RIGHT = Code("24028007", "SCT", "Right", 244)
LEFT = Code("7771000", "SCT", "Left", 244)
BILATERAL = Code("51440002", "SCT", "Bilateral", 244)

# Segments
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure", 7150)
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure", 7150)

# Measurements
VOLUME = Code("118565006", "SCT", "Volume", 7469)
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume", 7474)
MEAN_ATTENUATION = Code("112181", "DCM", "Mean Attenuation Coefficient", 6141)
PERCENT_INVOLVED = Code("PCTINVOLVED", PRIVATE_SCHEME, "Percent of lung involved")
SEVERITY_SCORE = Code("SEVERITY25", PRIVATE_SCHEME, "Extent score by five lung zones, range 0 to 25")

# Units (UCUM)
CUBIC_CENTIMETER = Code("cm3", "UCUM", "cubic centimeter", 7462)
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit", 7181)
PERCENT = Code("%", "UCUM", "Percent", 7181)
NO_UNITS = Code("1", "UCUM", "no units", 7181)

# Processing status (CID 6047) and image quality (CID 7036)
SUCCEEDED_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings", 6047)
SUCCEEDED_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings", 6047)
FAILED_WITHOUT_FINDINGS = Code("111245", "DCM", "No algorithms succeeded; without findings", 6047)
PROCESSING_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
DIAGNOSTIC_QUALITY = Code("RID12", "RADLEX", "Diagnostic quality", 7036)
LIMITED_QUALITY = Code("RID13", "RADLEX", "Limited quality", 7036)
NON_DIAGNOSTIC_QUALITY = Code("RID14", "RADLEX", "Non-diagnostic quality", 7036)
REASON_NOT_ASSESSED = Code("NOTASSESSED", PRIVATE_SCHEME, "Reason the study was not assessed")
QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")

# Procedures reported (LOINC)
CT_CHEST = Code("24627-2", "LN", "CT Chest Report", 7000)
XR_CHEST_VIEWS = Code("30745-4", "LN", "XR Chest Views")
XR_CHEST = Code("36643-5", "LN", "XR Chest 2 Views")
XR_CHEST_AP = Code("36572-6", "LN", "XR Chest AP")

# Key objects
OF_INTEREST = Code("113000", "DCM", "Of Interest", 7010)

# Language (RFC 5646)
ENGLISH = Code("en-US", "RFC5646", "English (United States)")

# Work items
COMPUTER_AIDED_DETECTION = Code("110004", "DCM", "Computer Aided Detection", 9231)
DISCONTINUED = Code("110513", "DCM", "Discontinued for unspecified reason", 9300)

# Algorithm
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence", 7162)
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment", 7005)

BY_NAME: dict[str, Code] = {name: code for name, code in list(globals().items()) if isinstance(code, Code)}
"""Every code of this module by its constant's name; a manifest names its findings this way."""

SITES: dict[Code, Code] = {
    CARDIOMEGALY: HEART, PLEURAL_EFFUSION: PLEURA, PNEUMOTHORAX: PLEURA, PLEURAL_THICKENING: PLEURA, HERNIA: DIAPHRAGM}
"""Where a finding lies when it is not the lung itself."""
