"""Lost responses to sends (protocol/upload.py)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nel_mesh.models import Tracking
from nel_mesh.protocol import upload

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_only_a_delivered_message_of_this_send_settles_it() -> None:
    found = Tracking(
        message_id="M",
        local_id="L",
        workflow_id="WF",
        recipient="X1",
        file_name="a",
        status="accepted",
        upload_timestamp=NOW,
    )

    def same(
        tracking: Tracking, *, to: str = "X1", local_id_generated: bool = False, began: datetime | None = NOW
    ) -> bool:
        return upload.is_same_send(
            tracking,
            local_id="L",
            workflow_id="WF",
            to=to,
            file_name="a",
            local_id_generated=local_id_generated,
            began=began,
        )

    assert same(found)
    assert same(found, to="x1")
    assert same(found, to="GPPROVIDER_9434765919_01011950_SMITH"), "MESH finds that recipient's mailbox itself"
    assert same(found, began=NOW + timedelta(seconds=1))
    assert not same(found, began=NOW + timedelta(seconds=10))
    assert not same(found, began=None)
    assert same(found, began=None, local_id_generated=True)
    assert not same(found, to="X2")
    assert not same(found.model_copy(update={"file_name": "b"}))
    for change in (
        {"local_id": "other"},
        {"workflow_id": "other"},
        {"status": "uploading"},
        {"status": None},
        {"status": "error"},
    ):
        assert not same(found.model_copy(update=change), local_id_generated=True)
