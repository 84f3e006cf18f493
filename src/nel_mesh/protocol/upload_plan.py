"""The plan of an upload: all that is decided before its first request, from what the caller said."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from nel_mesh.protocol import endpoints, wire
from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES, Slice, split
from nel_mesh.protocol.endpoints import Request

_GZIP_OVERHEAD_BYTES = 100_000
"""What gzip may add to 100 MB that does not shrink; a chunk of the largest size must not outgrow the limit."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageOptions:
    """What the caller says of a message, except its content and its local id; see `send_message`."""

    to: str = dataclasses.field(repr=False)
    workflow_id: str
    subject: str | None = dataclasses.field(default=None, repr=False)
    file_name: str | None = dataclasses.field(default=None, repr=False)
    checksum: str | None = None
    content_type: str | None = None
    encrypted: bool = False
    compressed: bool = False
    partner_id: str | None = dataclasses.field(default=None, repr=False)
    compress: bool = False

    def headers(self, sender: str, local_id: str | None) -> dict[str, str]:
        """Return the headers of chunk 1; without a local id, those of any message that says the same.

        Raises InvalidArgument for what cannot be said in a header.
        """
        return wire.message_headers(
            sender=sender,
            to=self.to,
            workflow_id=self.workflow_id,
            local_id=local_id,
            subject=self.subject,
            file_name=self.file_name,
            checksum=self.checksum,
            content_type=self.content_type,
            encrypted=self.encrypted,
            compressed=self.compressed,
            partner_id=self.partner_id,
        )

    def digest(self, local_id: str | None) -> str:
        """Return a digest of what the caller said; `local_id` is theirs, and None if one is generated."""
        return _arguments_digest(self.headers("", local_id), local_id_generated=not local_id, compress=self.compress)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """All that is decided about an upload before its first request.

    Attributes:
        mailbox_id: the sender.
        local_id: the id by which MESH can be asked for the message.
        local_id_generated: whether it was generated for this send, and so is unique.
        headers: the headers of chunk 1.
        compress: whether each chunk is gzipped in transit.
        content_bytes: the length of the content.
        chunk_bytes: the length of each chunk but the last.
        slices: the chunks.
    """

    mailbox_id: str
    local_id: str
    local_id_generated: bool
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    compress: bool
    content_bytes: int
    chunk_bytes: int
    slices: tuple[Slice, ...] = dataclasses.field(repr=False)

    @classmethod
    def make(
        cls,
        options: MessageOptions,
        headers: Mapping[str, str],
        *,
        mailbox_id: str,
        local_id: str | None,
        unique: str,
        length: int,
        limit: int,
    ) -> UploadPlan:
        """Plan a new upload.

        Args:
            options: what the caller says of the message.
            headers: what `options.headers` returned for it.
            mailbox_id: the sender.
            local_id: the caller's id of the message, if they gave one.
            unique: the id to use if not.
            length: the length of the content.
            limit: the longest chunk.

        Raises InvalidArgument for what MESH would not take: empty or too long content.
        """
        chunk_bytes = min(limit, MAX_REQUEST_BYTES - _GZIP_OVERHEAD_BYTES * options.compress)
        return cls.with_chunk_bytes(
            options,
            headers,
            mailbox_id=mailbox_id,
            local_id=local_id or unique,
            local_id_generated=not local_id,
            length=length,
            chunk_bytes=chunk_bytes,
        )

    @classmethod
    def with_chunk_bytes(
        cls,
        options: MessageOptions,
        headers: Mapping[str, str],
        *,
        mailbox_id: str,
        local_id: str,
        local_id_generated: bool,
        length: int,
        chunk_bytes: int,
    ) -> UploadPlan:
        """Plan an upload whose local id and length of a chunk are settled."""
        return cls(
            mailbox_id=mailbox_id,
            local_id=local_id,
            local_id_generated=local_id_generated,
            headers={**headers, wire.LOCAL_ID: local_id},
            compress=options.compress,
            content_bytes=length,
            chunk_bytes=chunk_bytes,
            slices=tuple(split(length, chunk_bytes)),
        )

    def digest(self) -> str:
        """Return the digest of what the caller said, as `MessageOptions.digest` does."""
        return _arguments_digest(self.headers, local_id_generated=self.local_id_generated, compress=self.compress)

    def delivers(self, number: int) -> bool:
        """Whether MESH delivers the message when it has this chunk."""
        return number == len(self.slices)

    def request(self, number: int, message_id: str | None) -> Request:
        """Return the request for a chunk; `message_id` is that of the upload, from the second chunk on."""
        piece = self.slices[number - 1]
        if number == 1:
            return endpoints.send_message(self.mailbox_id, self.headers, piece.range, gzipped=self.compress)
        return endpoints.send_chunk(
            self.mailbox_id,
            message_id or "",
            piece.range,
            content_type=self.headers[wire.CONTENT_TYPE],
            gzipped=self.compress,
        )


def _arguments_digest(headers: Mapping[str, str], *, local_id_generated: bool, compress: bool) -> str:
    """Return a digest of what the caller said, without what was added to it."""
    added = {wire.FROM, wire.LOCAL_ID} if local_id_generated else {wire.FROM}
    said = sorted((name, value) for name, value in headers.items() if name not in added)
    return hashlib.sha256(json.dumps([said, compress]).encode()).hexdigest()
