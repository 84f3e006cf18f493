"""S3, and what speaks S3, as the destination of messages."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from nel_mesh.destinations.objects import (
    CONTENT_TYPE,
    MESSAGE_ID,
    ObjectDestination,
    checksum_of_parts,
    labels_of,
    split_url,
)
from nel_mesh.destinations.part_buffer import PartContent, PartReader
from nel_mesh.destinations.parts import Part, StoredObject
from nel_mesh.errors import InvalidArgument
from nel_mesh.models import MessageMetadata
from nel_mesh.stores.refusal import CONNECTION_LOST, Expected
from nel_mesh.stores.s3 import (
    BAD_PARTS,
    CONFLICT,
    NO_SUCH_KEY,
    NO_SUCH_UPLOAD,
    PRECONDITION_FAILED,
    Bucket,
    ChecksumCalculation,
    ObjectStream,
)

_MESSAGE_ID = MESSAGE_ID.replace("_", "-")
_MEBIBYTE = 1024 * 1024
_PUT_ATTEMPTS = 3


class S3Destination(ObjectDestination):
    """Store each message as an object in a bucket. An object is never replaced, and is never seen unfinished.

    The objects need no local disk: the records of unfinished messages and the journal are in the bucket too, below
    `.nel-mesh/`. A worker that is killed is continued by another one, on any machine, at the chunk.

    Credentials, region and address (AWS_ENDPOINT_URL) come from where boto3 looks for them. The object has the
    message id, workflow id, sender and type as its metadata. The subject, the recipient and the file name, which may
    hold patient data, are only in the sidecar.

    Args:
        bucket: the name of the bucket.
        key: the key of each object: text with any of `{mailbox_id}`, `{workflow_id}`, `{sender}`, `{date}`,
            `{message_id}` and `{type}`. Without `{message_id}` it is added as the last part.
        client: a boto3 client for S3, for what its own settings do not reach; it stays open.
        sidecar: also write all metadata, as JSON, to the key with `.json` added, before the object is there.
        request_checksum_calculation: `when_required` for stores that refuse newer checksums, as in boto3; parts are
            then sent with an MD5 instead of a SHA-256.

    Raises:
        InvalidArgument: an argument cannot be used, or boto3 cannot make a client.
    """

    def __init__(
        self,
        *,
        bucket: str,
        key: str = "mesh/{workflow_id}/{date}/{message_id}",
        client: Any = None,
        sidecar: bool = False,
        request_checksum_calculation: ChecksumCalculation = "when_supported",
    ) -> None:
        if not bucket:
            raise InvalidArgument("destination: name the bucket, as in s3://bucket/{workflow_id}/{message_id}")
        store = PartedBucket(bucket, client=client, request_checksum_calculation=request_checksum_calculation)
        super().__init__(store, key, sidecar=sidecar)

    @classmethod
    def from_url(cls, url: str) -> S3Destination:
        """Open the destination of a URL: `s3://bucket/key`, where the key is a template.

        The part of the key that has fields can also be given as `?prefix=`, as in
        `s3://results/mesh?prefix={workflow_id}/{message_id}`. With `?sidecar=true` the metadata is stored too.

        Raises:
            InvalidArgument: the URL has no bucket, another option, or credentials, which it may not hold.
        """
        parts = split_url(url, "boto3 takes them from the environment")
        return cls(bucket=parts.host, key=parts.path, sidecar=parts.sidecar)


class PartedBucket(Bucket):
    """A bucket whose objects arrive in parts, and are made only where nothing is; see `parts.PartStore`."""

    least_part_bytes = 5 * _MEBIBYTE

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self._etags_are_md5 = False
        """Whether a part's ETag was seen to be its MD5; with some encryption it is not."""

    def begin(self, key: str, metadata: MessageMetadata) -> str:
        """Begin a multipart upload; return its id."""
        checksum = {"ChecksumAlgorithm": "SHA256"} if self.has_checksums else {}
        response = self.call(
            "create_multipart_upload", Key=key, Metadata=_metadata(metadata), ContentType=CONTENT_TYPE, **checksum
        )
        return str(response["UploadId"])

    def is_open(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Whether S3 still has this upload and these parts of it."""
        found: dict[int, tuple[str, int]] = {}
        marker = 0
        while True:
            try:
                page = self.call(
                    "list_parts", expected=(NO_SUCH_UPLOAD,), Key=key, UploadId=upload_id, PartNumberMarker=marker
                )
            except Expected:
                return False
            found |= {one["PartNumber"]: (str(one["ETag"]), one["Size"]) for one in page.get("Parts", ())}
            if not page.get("IsTruncated"):
                break
            marker = page["NextPartNumberMarker"]
        return all(found.get(number) == (part.tag, part.length) for number, part in enumerate(parts, 1))

    def put_part(self, key: str, upload_id: str, number: int, content: PartContent, sha256: str) -> Part:
        """Store a part. S3 compares its checksum."""
        checksum = {"ChecksumSHA256": sha256} if self.has_checksums else self.checksum_parameters(content.blocks())
        response = self.call(
            "upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=PartReader(content), **checksum
        )
        tag = str(response["ETag"])
        if "ContentMD5" in checksum:
            self._etags_are_md5 = tag.strip('"') == base64.b64decode(checksum["ContentMD5"]).hex()
        return Part(content.length, tag, sha256)

    def complete(self, key: str, upload_id: str, parts: list[Part], metadata: MessageMetadata) -> bool:
        """Make the object of its parts; False if there is an object of that key.

        If the response was lost, a repeated request is refused, and the object of that key is this one.
        """
        try:
            self.call(
                "complete_multipart_upload",
                expected=(PRECONDITION_FAILED, CONFLICT, NO_SUCH_UPLOAD, CONNECTION_LOST, *BAD_PARTS),
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [self._completed(number, part) for number, part in enumerate(parts, 1)]},
                IfNoneMatch="*",
            )
        except Expected as refusal:
            if refusal.code == PRECONDITION_FAILED or self.find(key) is not None:
                return False
            if refusal.code != CONNECTION_LOST:
                # Such an upload cannot be completed any more: the next run starts again.
                self.abandon(key, upload_id)
            raise self.error(
                f"S3 did not complete the object: {refusal.code}; run it again, and it will be sent again if need be"
            ) from None
        return True

    def put(self, key: str, content: bytes, metadata: MessageMetadata) -> bool:
        """Make an object in one request; False if there is one of that key."""
        code = ""
        for _ in range(_PUT_ATTEMPTS):
            try:
                self.call(
                    "put_object",
                    expected=(PRECONDITION_FAILED, CONFLICT, CONNECTION_LOST),
                    Key=key,
                    Body=io.BytesIO(content),
                    Metadata=_metadata(metadata),
                    ContentType=CONTENT_TYPE,
                    IfNoneMatch="*",
                    **self.checksum_parameters([content]),
                )
            except Expected as refusal:
                code = refusal.code
                if code == PRECONDITION_FAILED or self.find(key) is not None:
                    return False
                if code == CONNECTION_LOST:
                    break
            else:
                return True
        raise self.error(f"S3 did not store the object: {code}; run it again")

    def find(self, key: str) -> StoredObject | None:
        """Look at an object; None if there is none."""
        mode = {"ChecksumMode": "ENABLED"} if self.has_checksums else {}
        try:
            found = self.call("head_object", expected=(NO_SUCH_KEY,), Key=key, **mode)
        except Expected:
            return None
        message_id = found.get("Metadata", {}).get(_MESSAGE_ID)
        checksum = found.get("ChecksumSHA256")
        if not self.has_checksums and self._etags_are_md5 and "-" in found["ETag"]:
            checksum = found["ETag"]
        return StoredObject(int(found["ContentLength"]), unquote(message_id) if message_id else None, checksum)

    def checksum_of(self, parts: list[Part]) -> str | None:
        """Return the checksum that S3 shows for an object of these parts: that of their checksums."""
        if self.has_checksums:
            return checksum_of_parts(parts)
        if not self._etags_are_md5:
            return None
        md5s = b"".join(bytes.fromhex(part.tag.strip('"')) for part in parts)
        return f'"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"'

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Read an object, a block at a time."""
        found = self.call("head_object", Key=key)
        stream = ObjectStream(self, key, str(found["ETag"]), 0)
        try:
            yield from stream.blocks()
        except Expected as refusal:
            raise self.error(f"the object changed while it was read: {refusal.code}") from None
        finally:
            stream.close()

    def abandon(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. It may be gone already."""
        try:
            self.call("abort_multipart_upload", expected=(NO_SUCH_UPLOAD, NO_SUCH_KEY), Key=key, UploadId=upload_id)
        except Expected:
            return

    def _completed(self, number: int, part: Part) -> Mapping[str, Any]:
        checksum = {"ChecksumSHA256": part.sha256} if self.has_checksums else {}
        return {"PartNumber": number, "ETag": part.tag, **checksum}


def _metadata(metadata: MessageMetadata) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in labels_of(metadata).items()}
