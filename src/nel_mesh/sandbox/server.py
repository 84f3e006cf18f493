"""The sandbox: a MESH server on a socket, with methods to look inside and to inject faults."""

from __future__ import annotations

import dataclasses
import gzip
import inspect
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Unpack

import h11

from nel_mesh.sandbox import client_settings
from nel_mesh.sandbox.asgi import SandboxApp
from nel_mesh.sandbox.certificates import Certificates
from nel_mesh.sandbox.configuration import DEFAULT_WORKFLOW_ID, MovableClock, SandboxConfiguration, SandboxMailbox
from nel_mesh.sandbox.faults import Fault, FaultPlan, as_faults
from nel_mesh.sandbox.listener import Listener
from nel_mesh.sandbox.request import RequestSeen
from nel_mesh.sandbox.store import Description, MessageStatus, ReportReason, Store, StoredMessage

if TYPE_CHECKING:
    from nel_mesh.settings import MeshSettings, SettingsKeywords


class Sandbox:
    """A strict MESH server. Use it in a `with` block, or call `start` and `stop`; it runs once.

    Every method may be called from any thread.

    Raises OSError on start if it cannot listen on its address, and ValueError if its data folder cannot be used.
    """

    def __init__(self, configuration: SandboxConfiguration | None = None) -> None:
        self.configuration = configuration or SandboxConfiguration()
        self._mailboxes = {mailbox.mailbox_id: mailbox for mailbox in self.configuration.mailboxes}
        self._clock = MovableClock(self.configuration.clock)
        self._plan = FaultPlan(as_faults(self.configuration.faults))
        self._certificates: Certificates | None = None
        self._store: Store | None = None
        self._app: SandboxApp | None = None
        self._listener: Listener | None = None

    def start(self) -> None:
        """Make certificates, listen and serve. Raises RuntimeError if it was started before."""
        if self._store is not None:
            raise RuntimeError("this sandbox has been started before; make another")
        chosen = self.configuration
        self._store = Store(chosen.data_folder, self._clock, chosen.inbox_life)
        if chosen.tls:
            kept = Path(chosen.data_folder) / "certificates" if chosen.data_folder is not None else None
            self._certificates = Certificates([chosen.host, *chosen.server_names], kept)
        self._app = SandboxApp(chosen, self._store, self._plan)
        try:
            self._listener = Listener(
                self._app,
                host=chosen.host,
                port=chosen.port,
                tls=self._server_context(),
            )
            self._listener.start()
        except BaseException:
            self._store.close()
            raise

    def stop(self) -> None:
        """Drop every connection, free the port, and remove what is not kept. A second time changes nothing."""
        try:
            if self._listener is not None:
                self._listener.stop()
        finally:
            if self._store is not None:
                self._store.close()

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address, as MeshSettings takes it."""
        if self._listener is None:
            raise RuntimeError("this sandbox has not been started")
        return self._listener.url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._listener is None:
            raise RuntimeError("this sandbox has not been started")
        return self._listener.port

    @property
    def mailbox_ids(self) -> tuple[str, ...]:
        """The mailbox ids, in the order of the configuration."""
        return tuple(self._mailboxes)

    @property
    def folder(self) -> Path:
        """The folder of the bodies; `stop` removes it unless it is the `data_folder` of the configuration."""
        return self._running_store().folder

    @property
    def root_certificate(self) -> str | None:
        """The certificate authority to trust, in PEM; None without TLS."""
        return self._certificates.root if self._certificates else None

    @property
    def client_certificate(self) -> str | None:
        """The certificate and key for a client, in PEM; None without TLS."""
        return self._certificates.client if self._certificates else None

    def client_context(self) -> ssl.SSLContext:
        """Make a TLS context with the client certificate that trusts this sandbox, for any HTTP client.

        Raises RuntimeError without TLS.
        """
        if self._certificates is None:
            raise RuntimeError("this sandbox has no TLS, or has not been started")
        return self._certificates.client_context()

    def settings(self, mailbox_id: str | None = None, /, **overrides: Unpack[SettingsKeywords]) -> MeshSettings:
        """Make the settings of a client for a mailbox (the first if None); `overrides` are further settings."""
        # Imported here, so that the server runs without the client's dependencies.
        from nel_mesh.settings import MeshSettings

        ready: dict[str, Any] = self._details(client_settings.keywords, mailbox_id)
        return MeshSettings(**{**ready, **overrides})

    def environment(self, mailbox_id: str | None = None) -> dict[str, str]:
        """Make the same settings as environment variables (`MESH_MAILBOX_ID` and so on), each on one line."""
        return client_settings.environment(self._details(client_settings.appsettings, mailbox_id))

    def write_settings(self, folder: Path | str) -> list[Path]:
        """Write `appsettings.<mailbox id>.json` for each mailbox, readable by you alone; return the paths.

        Beside them, for programs in other languages: `sandbox.json`, which names the rest, `root.pem`, `client.pem`,
        `client.key` and `client.pfx`. Creates the folder, and replaces files of the same names. They hold the private
        key.
        """
        target = Path(folder)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = []
        for mailbox_id in self.mailbox_ids:
            path = target / f"appsettings.{mailbox_id}.json"
            client_settings.write_private(path, self._details(client_settings.appsettings, mailbox_id))
            paths.append(path)
        client_settings.write_for_others(
            target,
            list(self.configuration.mailboxes),
            shared_key=self.configuration.shared_key,
            url=self.url,
            certificates=self._certificates,
        )
        return paths

    def messages(
        self,
        *,
        recipient: str | None = None,
        sender: str | None = None,
        status: MessageStatus | str | None = None,
    ) -> list[StoredMessage]:
        """Copy the messages, oldest first, in every state or in one: uploading, accepted, acknowledged, undeliverable.

        A message that nobody acknowledged in time is undeliverable, and is removed after 30 days.
        """
        return [
            message
            for message in self._running_store().snapshot()
            if (recipient is None or message.recipient == recipient)
            and (sender is None or message.sender == sender)
            and (status is None or message.status == status)
        ]

    def delivered(self, recipient: str) -> list[StoredMessage]:
        """Copy the messages, without reports, that have reached an inbox, acknowledged or not; oldest first."""
        return [message for message in self.messages(recipient=recipient) if message.position and not message.failure]

    def content(self, message_id: str) -> bytes:
        """Read the content of a message, decompressed if it came as gzip. Raises KeyError if there is none."""
        chunks = self.chunks(message_id)
        message = self._message(message_id)
        if message.description.content_encoding:
            return b"".join(gzip.decompress(chunk) for chunk in chunks)
        return b"".join(chunks)

    def chunks(self, message_id: str) -> list[bytes]:
        """Read the chunks of a message, as they were on the wire. Raises KeyError if there is none."""
        message = self._message(message_id)
        store = self._running_store()
        return [store.body(message, number).read_bytes() for number in range(1, len(message.sizes) + 1)]

    def requests(self, operation: str | None = None) -> list[RequestSeen]:
        """Copy the last requests, oldest first, or those for one operation, such as `send_message`."""
        seen = self._running_app().request_log.all()
        return [request for request in seen if operation is None or request.operation == operation]

    def add_fault(self, fault: Fault | str) -> Fault:
        """Plan a fault, at any time, and return it; it counts requests from now on.

            mesh.add_fault(Fault("send_message", "lose-response"))
            mesh.add_fault("retrieve_message:*:delay=0.5")

        Args:
            fault: a Fault, or its text form (`Fault.parse`).

        Raises ValueError for a text that is not a fault.
        """
        (planned,) = as_faults([fault])
        self._plan.add(planned)
        return planned

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that can still be injected, in the order in which they were added."""
        return self._plan.all()

    @property
    def pending_faults(self) -> tuple[Fault, ...]:
        """The faults that have not been injected yet."""
        return self._plan.pending()

    def clear_faults(self) -> None:
        """Forget every fault, also those of the configuration."""
        self._plan.replace(())

    @property
    def clock(self) -> MovableClock:
        """The clock by which messages expire; call it for the time."""
        return self._clock

    def advance(self, by: timedelta) -> None:
        """Move the sandbox's clock forward, and process everything that is due by then.

        A message that nobody acknowledged within 5 days of its delivery leaves the inbox, and its sender gets a
        REPORT; it is removed 30 days after its delivery. Tokens are verified by the clock of the configuration, as no
        client's clock moves with this one.

        Raises ValueError for a negative time.
        """
        self._clock.advance(by)
        if self._store is not None:
            self._store.keep_time()

    def deliver_message(
        self,
        recipient: str,
        content: bytes | Sequence[bytes],
        *,
        sender: str | None = None,
        workflow_id: str = DEFAULT_WORKFLOW_ID,
        subject: str = "",
        local_id: str = "",
        file_name: str = "",
        partner_id: str = "",
        checksum: str = "",
        content_type: str = "",
        content_encoding: str = "",
        compressed: str = "",
        encrypted: str = "",
    ) -> str:
        """Put a message into an inbox as if it had been sent; return its id.

        Args:
            recipient: a mailbox of this sandbox.
            content: the body, or one for each chunk, as on the wire.
            sender: a mailbox of this sandbox; the first if None.
            content_encoding: the announced encoding of the bodies; it need not be true.

        The rest are the Mex headers of the same names. They may break the rules of MESH, but not those of HTTP.

        Raises KeyError for an unknown mailbox, and ValueError for a value that HTTP cannot carry.
        """
        store = self._running_store()
        bodies = [content] if isinstance(content, bytes) else list(content)
        if not bodies:
            raise ValueError("content: at least one chunk is needed")
        description = Description(
            workflow_id=workflow_id,
            subject=subject,
            local_id=local_id,
            file_name=file_name,
            partner_id=partner_id,
            checksum=checksum,
            content_type=content_type,
            content_encoding=content_encoding,
            compressed=compressed,
            encrypted=encrypted,
        )
        _check_headers(description)
        with store.new_upload() as upload:
            upload.write(bodies[0])
            upload.close()
            message = store.add(
                sender=self._mailbox(sender).mailbox_id,
                recipient=self._mailbox(recipient).mailbox_id,
                description=description,
                total_chunks=len(bodies),
                upload=upload,
            )
        for number, body in enumerate(bodies[1:], start=2):
            with store.new_upload() as upload:
                upload.write(body)
                upload.close()
                store.add_chunk(message, number, upload)
        return message.message_id

    def deliver_report(
        self,
        recipient: str,
        *,
        linked_message_id: str,
        event: str = "SEND",
        code: str = "14",
        description: str = "Undelivered message",
        workflow_id: str | None = None,
        subject: str | None = None,
        local_id: str | None = None,
        file_name: str = "",
    ) -> str:
        """Put a REPORT into an inbox (MESH API, "Asynchronous error reporting"); return its id.

        Args:
            recipient: the mailbox that sent the failed message.
            linked_message_id: the failed message; it need not exist.
            event, code, description: the failure; by default the message was not delivered.
            workflow_id, subject, local_id: if None, those of the failed message, if it exists.

        Raises KeyError for an unknown mailbox, and ValueError for a value that HTTP cannot carry.
        """
        store = self._running_store()
        failed = store.find(linked_message_id)
        about = failed.description if failed else Description()
        headers = Description(
            workflow_id=about.workflow_id if workflow_id is None else workflow_id,
            subject=about.subject if subject is None else subject,
            local_id=about.local_id if local_id is None else local_id,
            file_name=file_name,
        )
        reason = ReportReason(linked_message_id=linked_message_id, event=event, code=code, description=description)
        _check_headers(headers)
        _check_headers(reason)
        recipient_id = self._mailbox(recipient).mailbox_id
        return store.add_report(recipient=recipient_id, description=headers, failure=reason).message_id

    def reset(self) -> None:
        """Forget every message, request, used token and fault, and reset the clock, as if just started.

        The faults of the configuration are planned again. Connections stay.
        """
        app = self._running_app()
        self._clock.reset()
        app.reset()

    def _server_context(self) -> ssl.SSLContext | None:
        if self._certificates is None:
            return None
        return self._certificates.server_context(client_certificates=self.configuration.client_certificates)

    def _message(self, message_id: str) -> StoredMessage:
        message = self._running_store().find(message_id)
        if message is None:
            raise KeyError(message_id)
        return message

    def _mailbox(self, mailbox_id: str | None) -> SandboxMailbox:
        try:
            return self._mailboxes[self.mailbox_ids[0] if mailbox_id is None else mailbox_id]
        except KeyError:
            known = ", ".join(self.mailbox_ids)
            raise KeyError(f"{mailbox_id}: this sandbox has no such mailbox; it has {known}") from None

    def _details(self, form: Any, mailbox_id: str | None) -> dict[str, Any]:
        details: dict[str, Any] = form(
            self._mailbox(mailbox_id),
            shared_key=self.configuration.shared_key,
            url=self.url,
            certificates=self._certificates,
        )
        return details

    def _running_store(self) -> Store:
        if self._store is None:
            raise RuntimeError("this sandbox has not been started")
        self._store.keep_time()
        return self._store

    def _running_app(self) -> SandboxApp:
        if self._app is None:
            raise RuntimeError("this sandbox has not been started")
        return self._app


def _check_headers(values: Description | ReportReason) -> None:
    """Raise ValueError for a value that cannot be sent in a header."""
    for name, value in dataclasses.asdict(values).items():
        try:
            h11.Response(status_code=200, headers=[("x", value.encode("latin-1"))])
        except (UnicodeEncodeError, h11.LocalProtocolError):
            raise ValueError(f"{name}: an HTTP header cannot carry {value!a:.80}") from None


_P = ParamSpec("_P")


def _taking(source: Callable[_P, object]) -> Callable[[Callable[..., Sandbox]], Callable[_P, Sandbox]]:
    """Give a function the parameters of another callable."""

    def decorate(function: Callable[..., Sandbox]) -> Callable[_P, Sandbox]:
        function.__signature__ = inspect.signature(source)  # type: ignore[attr-defined]
        return function

    return decorate


@_taking(SandboxConfiguration)
def sandbox(**options: Any) -> Sandbox:
    """Make a sandbox, to be started by `with sandbox() as mesh:`. The arguments are SandboxConfiguration's."""
    return Sandbox(SandboxConfiguration(**options))
