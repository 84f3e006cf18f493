"""Plans and records of uploads, for tests."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from nel_mesh.protocol.upload_plan import MessageOptions, UploadPlan
from nel_mesh.protocol.upload_record import SendRecord

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
OPTIONS = MessageOptions(to="X1", workflow_id="WF", file_name="a.csv", subject="Mrs Jones")


def make_plan(length: int = 5, limit: int = 5, local_id: str | None = None, **options: Any) -> UploadPlan:
    said = dataclasses.replace(OPTIONS, **options)
    return UploadPlan.make(
        said,
        said.headers("ME", local_id),
        mailbox_id="ME",
        local_id=local_id,
        unique="unique",
        length=length,
        limit=limit,
    )


def make_record(plan: UploadPlan | None = None, **changes: Any) -> SendRecord:
    plan = plan or make_plan()
    record = SendRecord.begin(plan, arguments=plan.digest(), modified_ns=7, now=NOW)
    return dataclasses.replace(record, **changes)
