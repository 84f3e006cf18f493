"""Content that is sent out of S3: an object, read in ranges, in constant memory."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.content import Content, NothingThere, RemoteSource
from nel_mesh.stores.refusal import Expected
from nel_mesh.stores.s3 import NO_SUCH_KEY, Bucket, ObjectStream

_MOST_STREAMS = 3
"""A chunk is sent while the next one is compressed."""


class S3Source(RemoteSource):
    """An object in a bucket.

    Args:
        bucket: the name of the bucket.
        key: the key of the object.
        client: a boto3 client for S3; by default one is made.
    """

    def __init__(self, *, bucket: str, key: str, client: Any = None) -> None:
        if not bucket or not key or key.endswith("/"):
            raise InvalidArgument("path: name the bucket and the object, as in s3://bucket/key")
        super().__init__(url=f"s3://{bucket}/{key}", name=key.rpartition("/")[2])
        self._bucket, self._key, self._client = bucket, key, client

    @classmethod
    def from_url(cls, url: str) -> S3Source:
        """Return the object of a URL: `s3://bucket/key`. A key is taken as it is written, as the AWS command does."""
        bucket, _, key = url.partition("://")[2].partition("/")
        if "@" in bucket:
            raise InvalidArgument("path: a URL holds no credentials; boto3 takes them from the environment")
        return cls(bucket=bucket, key=key)

    def open(self) -> Content:
        """Look at the object, for its length and its ETag."""
        bucket = Bucket(self._bucket, client=self._client, failure=SourceError)
        try:
            found = bucket.call("head_object", expected=(NO_SUCH_KEY,), Key=self._key)
            return _S3Content(bucket, self._key, int(found["ContentLength"]), str(found["ETag"]))
        except Expected:
            try:
                # A missing bucket gives the same response to `head_object`; this one names it.
                bucket.call("list_objects_v2", Prefix=self._key, MaxKeys=1)
            finally:
                bucket.close()
            raise NothingThere(f"content: there is no such object in {bucket.place}; check the key") from None
        except BaseException:
            bucket.close()
            raise


class _S3Content(Content):
    """An object of one ETag. Each reader goes through one response after the other, from where it was."""

    def __init__(self, bucket: Bucket, key: str, length: int, etag: str) -> None:
        super().__init__(length)
        self._bucket, self._key, self._etag = bucket, key, etag
        self._guard = threading.Lock()
        self._streams: dict[int, ObjectStream] = {}
        """The responses that are open, by where they stand."""
        self._is_closed = False

    def read(self, start: int, size: int) -> bytes:
        """Read exactly `size` bytes from `start`."""
        with self._guard:
            if self._is_closed:
                raise SourceError("content: the send has ended")
            stream = self._streams.pop(start, None)
        if stream is None:
            stream = ObjectStream(self._bucket, self._key, self._etag, start)
        try:
            data = stream.read(size)
        except Expected:
            raise SourceError("content: the object in S3 changed while it was being sent") from None
        except BaseException:
            stream.close()
            raise
        self._keep(stream)
        if len(data) != size:
            raise SourceError("content: it became shorter while it was being sent")
        return data

    def _keep(self, stream: ObjectStream) -> None:
        """Keep a response open for the next read, and no more of them than there are readers."""
        with self._guard:
            before = self._streams.pop(stream.position, None)
            self._streams[stream.position] = stream
            left = [before] if before is not None else []
            while (self._is_closed and self._streams) or len(self._streams) > _MOST_STREAMS:
                left.append(self._streams.pop(next(iter(self._streams))))
        for one in left:
            one.close()

    def digest(self, start: int, length: int, before: str) -> str:
        """Return a digest of the place and the ETag: nothing is read of an object with another one."""
        text = f"{before} {self._etag} {start} {length}"
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Return the length, and a number made of the ETag in place of a date."""
        return self.length, int.from_bytes(hashlib.sha256(self._etag.encode()).digest()[:6], "big")

    def close(self) -> None:
        """Close the responses that are open."""
        with self._guard:
            self._is_closed = True
            streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()
        self._bucket.close()
