"""The DICOM conformance statement (deploy/CONFORMANCE.md), written by the code that it speaks of."""
