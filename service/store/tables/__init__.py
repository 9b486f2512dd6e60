"""The tables. Every `*_at` is Unix time in seconds, UTC; UIDs are as in DICOM; JSON columns hold JSON text types only.

To import this is to fill the metadata with all of them.
"""

from __future__ import annotations

from service.store.tables.readers import (
    AccessToken,
    Account,
    Correction,
    LoginLink,
    LoginSession,
    LoginTry,
    Opinion,
    SavedView,
)
from service.store.tables.studies import Event, Instance, Notice, Rhythm, SendingNow, Study, found_in
from service.store.tables.work import Activation, Commitment, Delivery, DriftCount, Job, ResultObject, ShadowLook

__all__ = [
    "AccessToken", "Account", "Activation", "Commitment", "Correction", "Delivery", "DriftCount", "Event", "Instance",
    "Job", "LoginLink", "LoginSession", "LoginTry", "Notice", "Opinion", "ResultObject", "Rhythm", "SavedView",
    "SendingNow", "ShadowLook", "Study", "found_in",
]
