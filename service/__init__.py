"""firstlook: a DICOM inference service that sits beside the PACS. Research use only."""

from importlib.metadata import version

__version__ = version("firstlook")
DISCLAIMER = "Research use only. Not for clinical diagnosis."
