"""One MESH operation at a time: make the request, authorise each attempt, send with retries, map the response."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterable, Callable, Iterable
from datetime import datetime

from nel_mesh.errors import ConnectionLost, MeshError, NotFound, Outcome, OutcomeUnknown, ResponseError
from nel_mesh.http.exchange import header_lines
from nel_mesh.instrumentation.events import Hook
from nel_mesh.instrumentation.logs import LogHook
from nel_mesh.instrumentation.opentelemetry import OpenTelemetryHook
from nel_mesh.instrumentation.spans import Instrumentation, RequestSpan
from nel_mesh.io.clock import AsyncClock
from nel_mesh.models import InboxPage, Mailbox, MessageMetadata, Tracking
from nel_mesh.protocol import endpoints, responses, retry, token, wire
from nel_mesh.protocol.endpoints import Request
from nel_mesh.settings import MeshSettings
from nel_mesh.tracebacks import without_locals

from .http import AsyncConnectionPool, AsyncResponse

_SEVERAL = 300
"""The status for a local id that several messages have."""

AsyncBody = Callable[[], AsyncIterable[bytes]]
"""Return the same body again for each attempt."""


@without_locals
class AsyncMailboxOperations:
    """The operations of one mailbox, each as MESH has it: none joins chunks or keeps state."""

    def __init__(
        self,
        settings: MeshSettings,
        http: AsyncConnectionPool,
        clock: AsyncClock,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.mailbox_id = settings.mailbox_id
        self._password = settings.password
        self._shared_key = settings.shared_key
        client = {
            "accept": wire.ACCEPT_V2,
            "user-agent": settings.mex_client_version,
            # MESH wants them at the handshake; some servers want them with every request.
            wire.CLIENT_VERSION: settings.mex_client_version,
            wire.OS_NAME: settings.mex_os_name,
            wire.OS_VERSION: settings.mex_os_version,
            wire.OS_ARCHITECTURE: settings.mex_os_architecture,
        }
        if settings.mex_java_version is not None:
            client[wire.JAVA_VERSION] = settings.mex_java_version
        self._prepared = header_lines(client.items())
        self.policy = retry.RetryPolicy(
            max_attempts=settings.max_attempts,
            initial_delay_in_seconds=settings.retry_initial_delay_in_seconds,
            max_delay_in_seconds=settings.retry_max_delay_in_seconds,
            max_retry_after_in_seconds=settings.max_retry_after_in_seconds,
        )
        self.instrumentation = Instrumentation(
            url=settings.url,
            mailbox_id=settings.mailbox_id,
            monotonic=clock.monotonic,
            hooks=[*hooks, LogHook(), OpenTelemetryHook()],
        )
        self._http = http
        self._clock = clock

    async def send(
        self,
        request: Request,
        body: AsyncBody | None = None,
        length: int = 0,
        *,
        streamed: bool = False,
        attempts: int | None = None,
        message_id: str | None = None,
    ) -> AsyncResponse:
        """Send a request, again where that is safe, and return the response if it is a success.

        The response's body has been read, unless it is to be streamed; then the caller closes it.
        An error carries the id of the message that it is about.
        """
        may_have_acted = False
        policy = self.policy if attempts is None else dataclasses.replace(self.policy, max_attempts=attempts)
        for attempt in itertools.count(1):
            try:
                with self.instrumentation.attempt(
                    request.operation, request.method, request.template, attempt, length, message_id
                ) as span:
                    return await self._attempt(request, body, length, span, streamed=streamed)
            except MeshError as failure:
                failure.operation = failure.operation or request.operation
                failure.message_id = failure.message_id or message_id
                failure.may_have_acted = may_have_acted = may_have_acted or retry.may_have_acted(failure)
                delay = retry.delay_before_retry(
                    policy,
                    failure,
                    attempt=attempt,
                    idempotent=request.idempotent,
                    jitter=self._clock.chance(),
                )
                if delay is None:
                    raise
                self.instrumentation.retry_scheduled(
                    request.operation,
                    failure,
                    attempt=attempt,
                    max_attempts=policy.max_attempts,
                    delay_in_seconds=delay,
                    message_id=message_id,
                )
            await self._clock.sleep(delay)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _attempt(
        self, request: Request, body: AsyncBody | None, length: int, span: RequestSpan, *, streamed: bool
    ) -> AsyncResponse:
        headers = {"accept-encoding": "identity", **request.headers}
        if request.needs_token:
            headers["authorization"] = token.authorization(
                mailbox_id=self.mailbox_id,
                password=self._password.get_secret_value(),
                shared_key=self._shared_key.get_secret_value(),
                nonce=self._clock.unique(),
                now=self._clock.now(),
            )
        response = await self._http.send(
            request.method, request.path, headers, body() if body else None, length, prepared=self._prepared
        )
        span.status = response.status
        if span.is_reported:
            span.server_time = responses.server_time(response.headers)
        succeeded = response.status in request.success
        if streamed and succeeded:
            return response
        try:
            await response.read(request.max_response_bytes if succeeded else endpoints.MAX_RESPONSE_BYTES)
        except ConnectionLost:
            # The status alone says enough of a refusal, whatever became of its words.
            if succeeded:
                raise
        if not succeeded:
            raise responses.error_from_response(
                request.operation, response.status, response.headers, response.body, now=self._clock.now()
            )
        return response

    async def ping(self) -> None:
        await self._ask(endpoints.ping())

    async def handshake(self) -> None:
        await self._ask(endpoints.handshake(self.mailbox_id))

    async def list_messages(
        self, *, max_results: int, continue_from: str | None, workflow_filter: str | None
    ) -> InboxPage:
        request = endpoints.list_messages(
            self.mailbox_id,
            max_results=max_results,
            continue_from=continue_from,
            workflow_filter=workflow_filter,
        )
        return responses.inbox(request.operation, (await self._ask(request)).body)

    async def count_messages(self) -> int:
        request = endpoints.count_messages(self.mailbox_id)
        return responses.count(request.operation, (await self._ask(request)).body)

    async def message_metadata(self, message_id: str) -> MessageMetadata:
        request = endpoints.message_metadata(self.mailbox_id, message_id)
        response = await self._ask(request, message_id)
        return responses.metadata(request.operation, message_id, response.headers)

    async def retrieve_chunk(self, message_id: str, chunk: int, *, attempts: int | None = None) -> AsyncResponse:
        request = endpoints.retrieve_message(self.mailbox_id, message_id, chunk)
        return await self.send(request, streamed=True, attempts=attempts, message_id=message_id)

    async def acknowledge_message(self, message_id: str) -> None:
        try:
            await self._ask(endpoints.acknowledge_message(self.mailbox_id, message_id), message_id)
        except MeshError as failure:
            if failure.may_have_acted:
                failure.outcome = Outcome.UNKNOWN
            raise

    async def track_message(self, message_id: str) -> Tracking:
        request = endpoints.track_message(self.mailbox_id, message_id)
        response = await self._ask(request, message_id)
        return responses.tracking(request.operation, response.body)

    async def find_sent(self, local_id: str) -> tuple[Tracking, datetime | None] | None:
        """The one message sent with this local id, and the server's own time; None if MESH knows none.

        Raises OutcomeUnknown if there are several: which of them is meant cannot be told.
        """
        request = endpoints.track_by_local_id(self.mailbox_id, local_id)
        try:
            response = await self._ask(request)
        except NotFound:
            return None
        except ResponseError as error:
            if error.status != _SEVERAL:
                raise
            raise OutcomeUnknown(
                "several messages have this local id", outcome=Outcome.UNKNOWN, status=error.status, local_id=local_id
            ) from error
        return responses.tracking(request.operation, response.body), responses.server_time(response.headers)

    async def lookup_endpoint(self, ods_code: str, workflow_id: str) -> list[Mailbox]:
        request = endpoints.lookup_endpoint(ods_code, workflow_id)
        return responses.mailboxes(request.operation, (await self._ask(request)).body)

    async def search_workflow(self, workflow_id: str) -> list[Mailbox]:
        request = endpoints.search_workflow(workflow_id)
        return responses.mailboxes(request.operation, (await self._ask(request)).body)

    async def _ask(self, request: Request, message_id: str | None = None) -> AsyncResponse:
        """Does an operation that is one request, about a message or none."""
        with self.instrumentation.operation(request.operation, message_id=message_id):
            return await self.send(request, message_id=message_id)
