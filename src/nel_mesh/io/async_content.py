"""Content to be sent by the async client, opened and spooled without the event loop waiting; see `content.py`."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncIterable
from contextvars import copy_context
from types import TracebackType
from typing import TypeAlias, cast

import anyio.to_thread

from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.content import Content, ContentOpener, ContentSource, Spool, checked_block

AsyncContentSource: TypeAlias = "ContentSource | AsyncIterable[bytes]"


class AsyncOpenContent(ContentOpener):
    """Content that is open in an `async with` block. The event loop never waits for a disk or a pipe."""

    SEND_BLOCK_BYTES = 1024 * 1024
    """How many bytes are read at a time; to wait for a thread costs as much as to read some hundred KiB."""

    async def __aenter__(self) -> Content:
        try:
            if isinstance(self._source, (bytes, bytearray, memoryview)):
                self._open_at_once()
            else:
                await in_thread(self._open_at_once)
            if self._content is None and isinstance(self._source, AsyncIterable):
                self._read_through = True
                spool = self._spool()
                async for block in self._source:
                    await in_thread(spool.write, checked_block(block))
        except BaseException:
            self._close(failed=True)
            raise
        if self._content is None:
            await self._read_in_daemon_thread(self._spool())
        return cast("Content", self._content)

    async def _read_in_daemon_thread(self, spool: Spool) -> None:
        """Read through a source that may wait for ever, such as a pipe, in a thread that a cancelled caller leaves.

        The thread ends when the source gives its next block, and then leaves the source itself. Until then the file
        object is in use. A daemon, it does not keep the process from ending.
        """
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        guard = threading.Lock()
        errors: list[BaseException] = []
        is_done = is_left = False

        def read() -> None:
            nonlocal is_done
            try:
                with contextlib.closing(self._blocks()) as blocks:
                    spool.fill(blocks)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's task
                errors.append(error)
            with guard:
                is_done = True
                close_here = is_left
            if close_here:
                self._close(failed=True)
            ended.put(None)

        threading.Thread(target=copy_context().run, args=(read,), name="nel-mesh", daemon=True).start()
        try:
            await anyio.to_thread.run_sync(ended.get, abandon_on_cancel=True)
        except BaseException:
            with guard:
                is_left = True
                close_here = is_done
            spool.close()
            # The worker thread that waits has nothing to wait for any more.
            ended.put(None)
            if close_here:
                self._close(failed=True)
            raise
        if errors:
            self._close(failed=True)
            raise errors[0]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not in a thread: it must happen even when the task is being cancelled, and takes no time.
        self._close(failed=error is not None)
