"""The scenarios, by the numbers that NEL.MESH's witness tests use.

NHS England's own list of witness tests comes with the supplier pack and is not public; these are none of its words.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from nel_mesh import Gone, MeshClient, MeshError, NotAuthorised, NotFound, Refused
from nel_mesh.witness.trial import Trial, Unexpected, Waiting

_SMALL = b"A message of the witness scenarios; nobody's data.\n"
_MEBIBYTE = 1024 * 1024
_LARGE_BYTES = 3 * _MEBIBYTE + 17
_UNDELIVERED_AFTER = timedelta(days=5, minutes=1)


class Scenario(NamedTuple):
    """A row of SCENARIOS.

    Attributes:
        title: what is tried.
        expected: what should come of it.
        run: tries it.
    """

    title: str
    expected: str
    run: Callable[[Trial], None]


def _handshake(trial: Trial) -> None:
    with trial.sender() as client:
        client.handshake()
        trial.note(f"the handshake of {client.mailbox_id} succeeded")
    with trial.recipient() as client:
        client.handshake()
        trial.note(f"the handshake of {client.mailbox_id} succeeded")


def _send(trial: Trial) -> None:
    with trial.sender() as client:
        message_id = trial.send(client, _SMALL)
        tracking = client.track_message(message_id)
        trial.expect(not tracking.failed, f"tracking says {tracking.status} of {message_id}")
    with trial.recipient() as client:
        trial.wait_for(client, message_id)
        _acknowledge(trial, client, message_id)


def _send_and_acknowledge(trial: Trial) -> None:
    message_id = _sent(trial, _SMALL)
    with trial.recipient() as client:
        _receive(trial, client, message_id, _SMALL)
        _acknowledge(trial, client, message_id)
        trial.expect(message_id not in set(_listed(trial, client)), f"{message_id} is no longer in the inbox")
    with trial.sender() as client:
        status = client.track_message(message_id).status
        trial.expect(status == "acknowledged", f"tracking says {status} of {message_id}")


def _retrieve(trial: Trial) -> None:
    message_id = _sent(trial, _SMALL)
    with trial.recipient() as client:
        _receive(trial, client, message_id, _SMALL)
        trial.expect(message_id in set(_listed(trial, client)), f"{message_id} is in the inbox until acknowledged")
        _acknowledge(trial, client, message_id)


def _retrieve_chunked(trial: Trial) -> None:
    content = os.urandom(_LARGE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    with trial.sender(max_chunk_size_in_megabytes=1) as client:
        message_id = trial.send(client, content, checksum=f"SHA-256 {digest}")
    with trial.recipient() as client:
        trial.wait_for(client, message_id)
        with client.retrieve_message(message_id, verify_checksum=True) as message:
            received = message.read()
            trial.expect(message.metadata.chunks > 1, f"it came in {message.metadata.chunks} chunks")
            trial.expect((message.metadata.checksum or "").endswith(digest), "the sender's checksum came with it")
        trial.expect(hashlib.sha256(received).hexdigest() == digest, "the content has that checksum")
        _acknowledge(trial, client, message_id)


def _send_chunked(trial: Trial) -> None:
    content = os.urandom(_LARGE_BYTES // 2).hex().encode()
    with trial.sender(max_chunk_size_in_megabytes=1) as client:
        message_id = trial.send(client, content, compress=True)
    with trial.recipient() as client:
        trial.wait_for(client, message_id)
        with client.retrieve_message(message_id) as message:
            received = message.read()
            trial.expect(message.metadata.chunks > 1, f"it was sent in {message.metadata.chunks} chunks, gzipped")
        trial.expect(received == content, f"all {len(content):,} bytes came back as they were")
        _acknowledge(trial, client, message_id)


def _high_volume(trial: Trial) -> None:
    count = trial.parties.volume
    with trial.sender() as client:
        sent = {
            client.send_message(
                _numbered(number), to=trial.parties.recipient.mailbox_id, workflow_id=trial.parties.workflow_id
            ).message_id: number
            for number in range(count)
        }
    trial.expect(len(sent) == count, f"{count} messages were sent, each with an id of its own")
    with trial.recipient() as client:
        listed = _listed(trial, client)
        for message_id in sent:
            if message_id not in listed:
                trial.wait_for(client, message_id)
        for message_id, number in sent.items():
            with client.retrieve_message(message_id) as message:
                if message.read() != _numbered(number):
                    raise Unexpected(f"{message_id} has other content than was sent")
            client.acknowledge_message(message_id)
        trial.note(f"all {count} were retrieved as they were sent, and acknowledged")
        left = sent.keys() & set(_listed(trial, client))
        trial.expect(not left, f"{len(left)} of them are left in the inbox")


def _wrong_authentication(trial: Trial) -> None:
    with trial.sender(password="a-wrong-password") as client:  # noqa: S106 - it is to be wrong
        _raises(trial, NotAuthorised, client.handshake, "a handshake with a wrong password is refused")
        _raises(trial, NotAuthorised, client.list_messages, "a list of the inbox with a wrong password is refused")
    trial.note("a mailbox that NHS England has disabled is refused in the same way; it cannot be tried from here")


def _invalid_recipient(trial: Trial) -> None:
    with trial.sender() as client:
        try:
            message_id = trial.send(client, _SMALL, to="X26NOSUCH999")
        except Refused as refusal:
            trial.expect(refusal.status == 417, f"a mailbox that is unknown is refused at once: 417, {refusal.code}")
            return
        # Where the send is accepted, a report follows.
        tracking = client.wait_for_delivery(
            message_id, first_wait_in_seconds=5, deadline_in_seconds=trial.parties.patience_in_seconds
        )
        trial.expect(tracking.failed, f"tracking says {tracking.status}, {tracking.status_code}, of {message_id}")


def _undelivered(trial: Trial) -> None:
    parties = trial.parties
    message_id = trial.remembered.get("message_id")
    with trial.sender() as client:
        if message_id is None:
            message_id = trial.remembered["message_id"] = trial.send(client, _SMALL)
            if parties.advance is not None:
                parties.advance(_UNDELIVERED_AFTER)
                trial.note("the sandbox's clock was moved on by 5 days")
        tracking = client.track_message(message_id)
        if not tracking.failed:
            raise Waiting(
                f"{message_id} is to be left in the inbox of {parties.recipient.mailbox_id} for 5 days; tracking says "
                f"{tracking.status}. Run this scenario again after that"
            )
        trial.note(f"tracking says {tracking.status} of {message_id}")
        for report_id in client.iter_message_ids():
            metadata = client.message_metadata(report_id)
            if getattr(metadata, "linked_message_id", None) == message_id:
                trial.note(f"the report {report_id} says so too: {metadata.status_event} {metadata.status_code}")
                client.acknowledge_message(report_id)
                trial.remembered.clear()
                return
    raise Unexpected(f"the inbox of the sender has no report about {message_id}")


def _no_such_message(trial: Trial) -> None:
    with trial.recipient() as client:
        missing = "20200101000000000000_000000"
        _raises(
            trial,
            (NotFound, Gone),
            lambda: client.message_metadata(missing),
            "a message that is not in the inbox is not found",
        )


def _already_downloaded(trial: Trial) -> None:
    message_id = _sent(trial, _SMALL)
    with trial.recipient() as client:
        _receive(trial, client, message_id, _SMALL)
        _acknowledge(trial, client, message_id)
        _raises(
            trial,
            (NotFound, Gone),
            lambda: client.message_metadata(message_id),
            "a message that was acknowledged cannot be had again",
        )


SCENARIOS = {
    100: Scenario("Configuration and handshake", "Both mailboxes' handshakes succeed.", _handshake),
    201: Scenario("Send a message", "MESH takes it, and it reaches the inbox.", _send),
    202: Scenario(
        "Send a message that is acknowledged", "Tracking says acknowledged, and it leaves the inbox.",
        _send_and_acknowledge,
    ),
    401: Scenario("Retrieve a message", "The content is as it was sent; it stays until acknowledged.", _retrieve),
    501: Scenario(
        "Retrieve a message in chunks, with checksum", "The chunks are joined, and the checksum fits.",
        _retrieve_chunked,
    ),
    502: Scenario("Send a message in chunks", "Each chunk is gzipped by itself, and all is there.", _send_chunked),
    601: Scenario("High volume", "Every message arrives once, and is acknowledged.", _high_volume),
    701: Scenario("Wrong authentication", "MESH refuses with 401 or 403; nothing is done.", _wrong_authentication),
    702: Scenario("Invalid recipient", "417, or an undelivered message with a report.", _invalid_recipient),
    703: Scenario("Undelivered message", "After 5 days the sender gets a report.", _undelivered),
    704: Scenario("No such message", "404, or 410.", _no_such_message),
    705: Scenario("Message downloaded before", "410, or 404.", _already_downloaded),
}  # fmt: skip
"""By number, in the order in which they are run."""


def _sent(trial: Trial, content: bytes) -> str:
    with trial.sender() as client:
        message_id = trial.send(client, content)
    with trial.recipient() as client:
        trial.wait_for(client, message_id)
    return message_id


def _receive(trial: Trial, client: MeshClient, message_id: str, content: bytes) -> None:
    with client.retrieve_message(message_id) as message:
        received = message.read()
    trial.expect(received == content, f"{message_id} was retrieved, {len(received):,} bytes, as it was sent")


def _acknowledge(trial: Trial, client: MeshClient, message_id: str) -> None:
    client.acknowledge_message(message_id)
    trial.note(f"{message_id} was acknowledged")


def _listed(trial: Trial, client: MeshClient) -> set[str]:
    return set(client.iter_message_ids(workflow_filter=trial.parties.workflow_id))


def _raises(
    trial: Trial, expected: type[MeshError] | tuple[type[MeshError], ...], work: Callable[[], Any], text: str
) -> None:
    try:
        work()
    except expected as error:
        trial.note(f"{text}: {type(error).__name__}, {error.status}")
        return
    raise Unexpected(f"not so: {text}")


def _numbered(number: int) -> bytes:
    return b"%d: %b" % (number, _SMALL)
