# Generated from _async/client.py by tools/unasync.py: edit that one, then run `make generate`.
"""The client that programs use: it adds no rule to what lies below, only a face."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from nel_mesh.brokers.clock import Clock
from nel_mesh.brokers.disk import ContentSource, Disk
from nel_mesh.brokers.http import Connection, HttpBroker
from nel_mesh.identity import client_ssl_context
from nel_mesh.models import InboxPage, Mailbox, MessageMetadata, Progress, SendReceipt, Tracking
from nel_mesh.protocol.endpoints import DEFAULT_RESULTS
from nel_mesh.settings import MeshSettings

from .mailbox import MailboxOperations
from .transfers import Message, Transfers


class MeshClient:
    """One MESH mailbox. A context manager; may be shared, as all calls use one pool of connections.

    Every call can raise ConnectionFailed, ConnectionLost, NotAuthorised, Busy or another ResponseError; each is raised
    only after as many attempts as the settings allow, where repeating does no harm. See `nel_mesh.errors`.

    Args:
        settings: mailbox, secrets, address, certificates and limits.
        clock: where time, chance and ids come from; for tests.

    Raises:
        CertificateError: a certificate or key in the settings cannot be used.
    """

    def __init__(self, settings: MeshSettings, *, clock: Clock | None = None) -> None:
        clock = clock or Clock()
        disk = Disk(settings.spool_directory)
        proxy = settings.proxy_for_url()
        self._http = HttpBroker(
            Connection(
                url=settings.url,
                ssl_context=client_ssl_context(settings) if settings.url.startswith("https:") else None,
                proxy=proxy.get_secret_value() if proxy else None,
                connect_timeout_in_seconds=settings.connect_timeout_in_seconds,
                read_timeout_in_seconds=settings.read_timeout_in_seconds,
                write_timeout_in_seconds=settings.write_timeout_in_seconds,
                max_connections=settings.max_connections,
            )
        )
        self._mailbox = MailboxOperations(settings, self._http, clock)
        self._transfers = Transfers(self._mailbox, disk, clock, chunk_bytes=settings.chunk_bytes)
        self.mailbox_id = settings.mailbox_id
        """The mailbox, in upper case."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mailbox_id!r})"

    def close(self) -> None:
        """Closes every connection. The client cannot be used after that."""
        self._http.close()

    def ping(self) -> None:
        """Asks whether a MESH server answers at all; needs no mailbox."""
        self._mailbox.ping()

    def handshake(self) -> None:
        """Validates access to the mailbox, and tells MESH that it is in use; once every 24 hours.

        Source: MESH API, "Validate a mailbox (Handshake)". Raises NotAuthorised if mailbox id, password, shared key,
        certificate or this machine's clock is wrong.
        """
        self._mailbox.handshake()

    def send_message(
        self,
        content: ContentSource,
        *,
        to: str,
        workflow_id: str,
        subject: str | None = None,
        local_id: str | None = None,
        file_name: str | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        encrypted: bool = False,
        compressed: bool = False,
        partner_id: str | None = None,
        compress: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> SendReceipt:
        """Sends a message of any size, and returns once MESH has all of it.

        Content longer than `max_chunk_size_in_megabytes` goes in several chunks; MESH delivers it when the last has
        come. Content that cannot be read twice, or whose length is unknown, first waits in a temporary file.

        Source: MESH API, "Send message", "Send chunked message". All texts are printable ASCII.

        Args:
            content: bytes, text (sent as UTF-8), a `Path`, a binary file or stream from where it stands to its end
                (it stays open), or an iterable of bytes. Up to 100 GB; not empty.
            to: the recipient's mailbox id; at most 100 characters.
            workflow_id: what kind of message it is, as agreed with the recipient; at most 300 characters.
            subject: at most 500 characters.
            local_id: your own id for it, at most 300 characters, not patient data. One is made if you give none; if
                you do, make it unique, since it is what settles the outcome of a send whose answer was lost.
            file_name: at most 300 characters.
            checksum: the content's checksum, at most 100 letters, digits, blanks, and `: - /`; passed on as it is.
            content_type: the content's media type; at most 100 characters.
            encrypted: the content was encrypted beforehand; passed on as it is.
            compressed: the content was compressed beforehand; passed on as it is.
            partner_id: at most 500 characters.
            compress: gzip each chunk in transit; the recipient gets the content as it was.
            progress: called with a `Progress` before each block goes, and after each chunk. If it raises, the send
                ends there.

        Returns:
            The message id, the local id, and how much was sent.

        Raises:
            InvalidArgument: an argument breaks a rule above; nothing was sent.
            SourceError: the content could not be read; it will not be delivered.
            StorageError: there was no room for the temporary file; it will not be delivered.
            Refused: MESH will not take it; it will not be delivered.
            OutcomeUnknown: the answer was lost, and it may have been delivered; do not blindly send it again.
            MeshError: every other failure; it will not be delivered, as `outcome` says.
        """
        return self._transfers.send_message(
            content,
            to=to,
            workflow_id=workflow_id,
            subject=subject,
            local_id=local_id,
            file_name=file_name,
            checksum=checksum,
            content_type=content_type,
            encrypted=encrypted,
            compressed=compressed,
            partner_id=partner_id,
            compress=compress,
            progress=progress,
        )

    def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        to: str,
        workflow_id: str,
        subject: str | None = None,
        local_id: str | None = None,
        file_name: str | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        encrypted: bool = False,
        compressed: bool = False,
        partner_id: str | None = None,
        compress: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> SendReceipt:
        """Sends a file; as `send_message`, and gives its own name as the `file_name` if you give none."""
        path = Path(path)
        return self.send_message(
            path,
            to=to,
            workflow_id=workflow_id,
            subject=subject,
            local_id=local_id,
            file_name=path.name if file_name is None else file_name,
            checksum=checksum,
            content_type=content_type,
            encrypted=encrypted,
            compressed=compressed,
            partner_id=partner_id,
            compress=compress,
            progress=progress,
        )

    def track_message(self, message_id: str) -> Tracking:
        """Says what has become of a message that this mailbox sent. Not for frequent polling.

        Source: MESH API, "Track outbox". Raises NotFound if this mailbox sent no such message.
        """
        return self._mailbox.track_message(message_id)

    def list_messages(
        self,
        *,
        max_results: int = DEFAULT_RESULTS,
        continue_from: str | None = None,
        workflow_filter: str | None = None,
    ) -> InboxPage:
        """Gives one page of the ids of messages that wait in the inbox, oldest first.

        Source: MESH API, "Check an inbox".

        Args:
            max_results: how many ids a page may have; 10 to 5,000.
            continue_from: where the page begins: the `continue_from` of the page before.
            workflow_filter: which workflow ids: `WF`, not `!WF`, beginning `WF*`, containing `*WF*`, not `!*WF*`;
                2 to 255 characters.
        """
        return self._mailbox.list_messages(
            max_results=max_results, continue_from=continue_from, workflow_filter=workflow_filter
        )

    def iter_message_ids(
        self, *, max_results: int = DEFAULT_RESULTS, workflow_filter: str | None = None
    ) -> Iterator[str]:
        """Gives the id of every message in the inbox, page after page, each once; ends though none is acknowledged.

        Arguments as for `list_messages`.
        """
        seen: set[str] = set()
        starts: set[str] = set()
        start: str | None = None
        while start is None or start not in starts:
            if start is not None:
                starts.add(start)
            page = self.list_messages(max_results=max_results, continue_from=start, workflow_filter=workflow_filter)
            for message_id in page:
                if message_id not in seen:
                    seen.add(message_id)
                    yield message_id
            start = page.continue_from
            if start is None:
                return

    def message_metadata(self, message_id: str) -> MessageMetadata:
        """Says what a message in the inbox is, without its content; a `Report` if it is one.

        Source: MESH API, "Head Message". Raises NotFound, or Gone if it has expired.
        """
        return self._mailbox.message_metadata(message_id)

    def retrieve_message(self, message_id: str) -> contextlib.AbstractContextManager[Message]:
        """Opens a message from the inbox, to be read in a `with` block. It does not acknowledge it.

        Source: MESH API, "Get Message", "Get Message chunk". Raises NotFound, or Gone if it has expired; reading
        raises IntegrityError if it is not whole.
        """
        return self._transfers.retrieve_message(message_id)

    def acknowledge_message(self, message_id: str) -> None:
        """Tells MESH that the message is safe here, and so removes it from the inbox. Twice does no harm.

        Source: MESH API, "Acknowledge message". Only do it when the content is complete and stored.
        """
        self._mailbox.acknowledge_message(message_id)

    def lookup_endpoint(self, ods_code: str, workflow_id: str) -> list[Mailbox]:
        """Finds the mailboxes of an organisation, by its ODS code, that take a workflow id.

        Source: MESH API, "Look up MESH address".
        """
        return self._mailbox.lookup_endpoint(ods_code, workflow_id)

    def search_workflow(self, workflow_id: str) -> list[Mailbox]:
        """Finds the mailboxes that take a workflow id. Source: MESH API, "Lookup by workflow"."""
        return self._mailbox.search_workflow(workflow_id)

    def count_messages(self) -> int:
        """Counts the messages in the inbox. Deprecated by MESH: use `list_messages` or `iter_message_ids`."""
        warnings.warn(
            "MESH has deprecated the inbox count; use list_messages() or iter_message_ids()",
            DeprecationWarning,
            stacklevel=2,
        )
        return self._mailbox.count_messages()
