"""The client that programs use: a face over the rooms below, without a rule of its own.

The rooms are loaded when a client is made, and what TLS needs only if it is used: a program that imports the client to
say how it is called, or has yet to find its settings, does not wait for them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import AsyncClock
from nel_mesh.protocol.endpoints import DEFAULT_RESULTS
from nel_mesh.tracebacks import without_locals

if TYPE_CHECKING:
    from nel_mesh.destinations.base import Destination, Record
    from nel_mesh.instrumentation.events import Hook
    from nel_mesh.io.async_content import AsyncContentSource
    from nel_mesh.io.journal import Journal
    from nel_mesh.models import (
        InboxPage,
        Mailbox,
        MessageMetadata,
        ReceivedFile,
        ReceiveProgress,
        ReceiveResult,
        SendProgress,
        SendReceipt,
        Tracking,
    )
    from nel_mesh.settings import MeshSettings

    from .delivery import AsyncReportHandler
    from .inbox import AsyncHandler
    from .message import AsyncMessage, AsyncRetrieval
    from .transport import AsyncTransport


@without_locals
class AsyncMeshClient:
    """A client for one MESH mailbox. A context manager; it may be shared, as all calls use one connection pool.

    Every call can raise ConnectionFailed, ConnectionLost, NotAuthorised, Busy or another ResponseError; each is raised
    only after as many attempts as the settings allow, where repeating does no harm. See `nel_mesh.errors`.

    Args:
        settings: mailbox, secrets, address, certificates and limits.
        transport: connections shared with the clients of other mailboxes; see `AsyncTransport`. Default: its own.
        hooks: callables that receive events, such as `RetryScheduled`; see `nel_mesh.instrumentation`.
        clock: where time, chance and ids come from; for tests.

    Raises:
        CertificateError: a certificate or key in the settings cannot be used.
    """

    def __init__(
        self,
        settings: MeshSettings,
        *,
        transport: AsyncTransport | None = None,
        hooks: Iterable[Hook] = (),
        clock: AsyncClock | None = None,
    ) -> None:
        # Here, and not with the first message, so that no event loop waits for them.
        from .download import AsyncDownloader
        from .inbox import AsyncInbox
        from .mailbox import AsyncMailboxOperations
        from .transport import AsyncTransport
        from .upload import AsyncSender

        _check_settings(settings)
        clock = clock or AsyncClock()
        self._transport = transport or AsyncTransport()
        self._closes_transport = transport is None
        self._mailbox = AsyncMailboxOperations(settings, self._transport._pool_for(settings), clock, hooks)
        self._sender = AsyncSender(
            self._mailbox, clock, chunk_bytes=settings.chunk_bytes, spool_folder=settings.spool_directory
        )
        self._downloader = AsyncDownloader(
            self._mailbox,
            clock,
            max_chunks=settings.chunks_at_once,
            max_connections=settings.max_connections,
            max_message_bytes=settings.max_message_bytes,
            strict_checksums=settings.strict_checksums,
        )
        self._inbox = AsyncInbox(self._mailbox, self._downloader, clock, settings.spool_directory)
        self._clock = clock
        self.mailbox_id = settings.mailbox_id
        """The mailbox, in upper case."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mailbox_id!r})"

    async def close(self) -> None:
        """Close every connection. The client cannot be used after that.

        The connections of a `transport` that was given stay open; closing the transport closes them.
        """
        if self._closes_transport:
            await self._transport.close()

    async def ping(self) -> None:
        """Check that a MESH server responds at all; this needs no mailbox."""
        await self._mailbox.ping()

    async def handshake(self) -> None:
        """Validate access to the mailbox, and tell MESH that it is in use. Do so once every 24 hours.

        Source: MESH API, "Validate a mailbox (Handshake)". Raises NotAuthorised if mailbox id, password, shared key,
        certificate or this machine's clock is wrong.
        """
        await self._mailbox.handshake()

    async def send_message(
        self,
        content: AsyncContentSource,
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
        progress: Callable[[SendProgress], object] | None = None,
    ) -> SendReceipt:
        """Send a message of any size, and return once MESH has all of it.

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
            progress: called with a `SendProgress` before each block goes, and after each chunk. If it raises, the send
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
        from nel_mesh.protocol.upload_plan import MessageOptions

        options = MessageOptions(
            to=to,
            workflow_id=workflow_id,
            subject=subject,
            file_name=file_name,
            checksum=checksum,
            content_type=content_type,
            encrypted=encrypted,
            compressed=compressed,
            partner_id=partner_id,
            compress=compress,
        )
        return await self._sender.send(content, options, local_id=local_id, progress=progress)

    async def send_file(
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
        progress: Callable[[SendProgress], object] | None = None,
        resume: str | os.PathLike[str] | Record | None = None,
    ) -> SendReceipt:
        """Send a file, as `send_message` does; its own name is the default of `file_name`.

        Args:
            path: the file; or the URL of one in a store, `s3://bucket/key`, `azure://account/container/name` or
                `sftp://host/path`, which is read while it is sent, and needs no disk. If it changes meanwhile, or
                before the send is resumed, it is not sent.
            resume: a file for a small record, a folder of such records, a `Transfer`, or any `Record`. After each chunk
                the record is replaced; called again with the same arguments, after whatever happened, the send resumes
                at the next chunk. A send of one request is looked up by its local id first. Under a record of its own
                (all but a folder), or with a `local_id`, a send that is complete returns its receipt again instead of
                being sent twice, until the record is forgotten; in a folder and without a `local_id` its record is
                removed, and the next call is a new send. If no record can be written when the send begins, a warning
                is logged and it is sent without one.

        Raises:
            SourceError: also if the file has changed since the record was begun.
            InvalidArgument: also if the record is of a send with other arguments.
            StorageError: also if a record that is there cannot be read or replaced, or another process is using it.
        """
        from nel_mesh.protocol.upload_plan import MessageOptions

        from .source import async_named_source

        source = await async_named_source(path)
        options = MessageOptions(
            to=to,
            workflow_id=workflow_id,
            subject=subject,
            file_name=source.name if file_name is None else file_name,
            checksum=checksum,
            content_type=content_type,
            encrypted=encrypted,
            compressed=compressed,
            partner_id=partner_id,
            compress=compress,
        )
        return await self._sender.send(source, options, local_id=local_id, progress=progress, resume=resume)

    async def resolve_send(self, local_id: str) -> Tracking | None:
        """Look up a send whose outcome is unknown, by its local id.

        Give MESH half a minute before you ask. None: MESH knows no such message, or several; if the local id was
        unique, it was not sent, and may be sent again. Source: MESH API, "Track outbox (deprecated)".

        Raises OutcomeUnknown if MESH has begun to take the message, and it is neither delivered nor failed.
        """
        return await self._sender.find(local_id)

    async def wait_for_delivery(
        self,
        message_id: str,
        *,
        first_wait_in_seconds: float = 30.0,
        longest_wait_in_seconds: float = 900.0,
        deadline_in_seconds: float = 5 * 24 * 3600.0,
    ) -> Tracking:
        """Track a sent message until it is acknowledged, has failed, or the deadline passes; return the last tracking.

        Args:
            message_id: the message.
            first_wait_in_seconds: between the first two times of asking; it doubles from there. MESH asks that
                tracking is not polled frequently.
            longest_wait_in_seconds: no wait is longer.
            deadline_in_seconds: when to give up; by default five days, when MESH gives the message back.
        """
        end = self._clock.monotonic() + deadline_in_seconds
        wait = first_wait_in_seconds
        while True:
            tracking = await self._mailbox.track_message(message_id)
            left = end - self._clock.monotonic()
            if tracking.final or left <= 0:
                return tracking
            await self._clock.sleep(min(wait, left))
            wait = min(2 * wait, longest_wait_in_seconds)

    async def track_message(self, message_id: str) -> Tracking:
        """Look up the state of a message that this mailbox sent. MESH asks not to be polled frequently.

        Source: MESH API, "Track outbox". Raises NotFound if this mailbox sent no such message.
        """
        return await self._mailbox.track_message(message_id)

    async def list_messages(
        self,
        *,
        max_results: int = DEFAULT_RESULTS,
        continue_from: str | None = None,
        workflow_filter: str | None = None,
    ) -> InboxPage:
        """List the ids of messages in the inbox, one page of them, oldest first.

        Source: MESH API, "Check an inbox".

        Args:
            max_results: how many ids a page may have; 10 to 5,000.
            continue_from: where the page begins: the `continue_from` of the page before.
            workflow_filter: which workflow ids: `WF`, not `!WF`, beginning `WF*`, containing `*WF*`, not `!*WF*`;
                2 to 255 characters.
        """
        return await self._mailbox.list_messages(
            max_results=max_results, continue_from=continue_from, workflow_filter=workflow_filter
        )

    def iter_message_ids(
        self, *, max_results: int = DEFAULT_RESULTS, workflow_filter: str | None = None
    ) -> AsyncIterator[str]:
        """Iterate over the id of every message in the inbox, page after page, each once.

        Arguments as for `list_messages`.
        """
        return self._inbox.message_ids(max_results=max_results, workflow_filter=workflow_filter)

    async def receive_messages(
        self,
        destination: str | os.PathLike[str] | Destination | AsyncHandler,
        *,
        message_ids: Iterable[str] | None = None,
        acknowledge: bool = True,
        on_report: AsyncReportHandler | None = None,
        journal: str | os.PathLike[str] | Journal | None = None,
        workflow_filter: str | None = None,
        limit: int | None = None,
        deadline_in_seconds: float | None = None,
        concurrency: int = 1,
        stop: Callable[[], bool] | None = None,
        progress: Callable[[ReceiveProgress], object] | None = None,
    ) -> ReceiveResult:
        """Empty the inbox into a folder or a store, or through a handler; acknowledge each message once it is safe.

        All pages are listed, until the inbox holds nothing new. One bad message never stops the others, and is never
        acknowledged. A message that was delivered here before is only acknowledged again: no duplicates.

        Args:
            destination: a folder, which is made if need be, a URL (`s3://`, `azure://`, `sftp://`), or any
                `Destination`; or a callable that is given each message, open, and must read it to its end. If it
                raises, the message is not acknowledged. Make it idempotent, for example by using the message id as a
                key: after a kill it is called again.
            message_ids: which messages; by default all that are in the inbox.
            acknowledge: acknowledge each message once it is safe. If not, the journal still remembers it, and a later
                call with the same journal acknowledges it without delivering it again.
            on_report: called with each report. Without it a report goes to the destination, as JSON; with a handler as
                destination it is only logged, and listed in the result. Then it is acknowledged.
                Content of a report, which MESH's own have not, is delivered like that of any message.
            journal: the file, best on a local disk, that remembers what has been delivered; or any `Journal`. By
                default it is in the destination; with a handler, give one, or a restart forgets.
            workflow_filter: as for `list_messages`.
            limit: the maximum number of messages to deliver.
            deadline_in_seconds: no message is begun, and no page listed, after this time.
            concurrency: how many messages are received at once; 1 to 1,000.
            stop: asked before each message and each page; True ends the run there.
            progress: called with a `ReceiveProgress` after each block, unless the destination is a handler; with
                `concurrency`, from several threads.

        Returns:
            The result: each message in one of its lists. Where a later page could not be listed, `error` says so.

        Raises:
            MeshError: the inbox could not be listed at all, or the journal not opened. A failure of one message is not
                raised, but listed in `failed`; see `ReceiveResult.raise_for_failed`.
        """
        from .destination import async_opened_destination, opened_journal

        if not 1 <= concurrency <= 1000:
            raise InvalidArgument("concurrency: from 1 to 1,000")
        if isinstance(message_ids, str):
            raise InvalidArgument("message_ids: expected several ids, such as a list; one id alone is [id]")
        async with async_opened_destination(destination) as place:
            return await self._inbox.receive(
                place,
                message_ids=message_ids,
                acknowledge=acknowledge,
                on_report=on_report,
                journal=opened_journal(journal, place),
                workflow_filter=workflow_filter,
                limit=limit,
                deadline_in_seconds=deadline_in_seconds,
                concurrency=concurrency,
                stop=stop,
                progress=progress,
            )

    def iter_messages(
        self,
        *,
        journal: str | os.PathLike[str] | Journal | None = None,
        workflow_filter: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[AsyncMessage, None]:
        """Iterate over the messages in the inbox, each verified and ready to be read in the body of a `for` loop.

        Each message is fetched whole before the body gets it: in memory while it is small, then in a nameless file in
        `spool_directory`. One that is damaged, or cannot be fetched, is logged and passed over, and stays in the inbox.

        When the body comes back for the next one, the message is acknowledged if it was read to its end (a report: in
        any case). If the body raises or leaves the loop, or did not read all of it, it is not. To leave the loop
        early, wrap the iterator in `contextlib.aclosing`.

        Arguments as for `receive_messages`; without a journal, a message whose acknowledgement was lost comes again.
        """
        from .destination import opened_journal

        return self._inbox.messages(journal=opened_journal(journal), workflow_filter=workflow_filter, limit=limit)

    async def receive_file(
        self,
        message_id: str,
        destination: str | os.PathLike[str] | Destination,
        *,
        file_name: str | None = None,
        verify_checksum: bool = True,
        progress: Callable[[ReceiveProgress], object] | None = None,
    ) -> ReceivedFile:
        """Receive a message into a folder or a store, and resume an interrupted download.

        Content arrives under a temporary name, chunk by chunk, with a record. A chunk that is incomplete or damaged is
        fetched again. The file gets its name when it is complete, verified and durable. A report without content is
        stored as `report-<message id>.json`. The message is not acknowledged.

        Args:
            message_id: the message.
            destination: a folder, which is made if need be, a URL, or any `Destination`.
            file_name: what to call it in a folder; by default what the message says. Either is made safe: no folders,
                no hidden or device names. A file of that name is never replaced: the message id is put into the name
                instead.
            verify_checksum: compare the content with the sender's checksum, if it is an MD5, SHA-1 or SHA-256.
            progress: called with an `ReceiveProgress` after each block.

        Raises:
            IntegrityError: it is not whole, or has another checksum; there is no file.
            StorageError: the destination will not have it, or another process is receiving it into there.
        """
        from nel_mesh.destinations.handler import HandlerDestination

        from .destination import async_opened_destination

        async with async_opened_destination(destination) as place:
            if isinstance(place, HandlerDestination):
                raise InvalidArgument(
                    "destination: expected a folder, a URL or a destination; for a handler, call receive_messages"
                )
            return await self._downloader.receive_file(
                message_id,
                place,
                file_name=file_name,
                verify_checksum=verify_checksum,
                progress=progress,
            )

    async def message_metadata(self, message_id: str) -> MessageMetadata:
        """Return the metadata of a message in the inbox, without its content; a `Report` if it is one.

        Source: MESH API, "Head Message". Raises NotFound, or Gone if it has expired.
        """
        return await self._mailbox.message_metadata(message_id)

    def retrieve_message(self, message_id: str, *, verify_checksum: bool = False) -> AsyncRetrieval:
        """Open a message from the inbox, to be read in a `with` block. This does not acknowledge it.

        Source: MESH API, "Get Message", "Get Message chunk". Raises NotFound, or Gone if it has expired; reading
        raises IntegrityError if it is not whole.

        Args:
            message_id: the message.
            verify_checksum: compare the content with the sender's checksum as well, if it is an MD5, SHA-1 or SHA-256;
                the read that would give the end of the content raises IntegrityError if it differs.
        """
        from .message import AsyncRetrieval

        return AsyncRetrieval(self._downloader.retrieve(message_id, verify_checksum=verify_checksum))

    async def acknowledge_message(self, message_id: str) -> None:
        """Tell MESH that the message is safe here, so that it leaves the inbox. Twice does no harm.

        Source: MESH API, "Acknowledge message". Only do it when the content is complete and stored.
        """
        await self._mailbox.acknowledge_message(message_id)

    async def lookup_endpoint(self, ods_code: str, workflow_id: str) -> list[Mailbox]:
        """Find the mailboxes of an organisation, by its ODS code, that accept a workflow id.

        Source: MESH API, "Look up MESH address".
        """
        return await self._mailbox.lookup_endpoint(ods_code, workflow_id)

    async def search_workflow(self, workflow_id: str) -> list[Mailbox]:
        """Find the mailboxes that accept a workflow id. Source: MESH API, "Lookup by workflow"."""
        return await self._mailbox.search_workflow(workflow_id)

    async def count_messages(self) -> int:
        """Count the messages in the inbox. Deprecated by MESH: use `list_messages` or `iter_message_ids`."""
        warnings.warn(
            "MESH has deprecated the inbox count; use list_messages() or iter_message_ids()",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self._mailbox.count_messages()


def _check_settings(given: object) -> None:
    from nel_mesh.settings import MeshSettings

    if not isinstance(given, MeshSettings):
        cure = (
            "for a file, MeshSettings.from_file(path)" if isinstance(given, (str, os.PathLike)) else "MeshSettings(...)"
        )
        raise InvalidArgument(f"settings: expected MeshSettings, not {type(given).__name__}; {cure}")
