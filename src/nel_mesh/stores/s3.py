"""A bucket of S3, or of what speaks S3. This module knows boto3, and no other does.

Errors name the bucket, the operation and S3's code: S3's own texts quote requests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

from nel_mesh.errors import InvalidArgument, MeshError, StorageError
from nel_mesh.stores.refusal import CONNECTION_LOST, NO_CONNECTION, Expected

try:
    import boto3
    import botocore.exceptions
    from botocore.config import Config
except ModuleNotFoundError:
    # The names of this package can be imported without any extra.
    boto3 = None

ChecksumCalculation = Literal["when_supported", "when_required"]
"""A setting of boto3; see `Bucket`."""

NO_SUCH_KEY, NO_SUCH_UPLOAD = "NoSuchKey", "NoSuchUpload"
PRECONDITION_FAILED, CONFLICT = "PreconditionFailed", "ConditionalRequestConflict"
BAD_PARTS = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall")

_ATTEMPTS = 5
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CONNECTIONS = 50
_READ_BLOCK_BYTES = 1024 * 1024

_CODES = {
    # A response to HEAD has no code but its status.
    "403": "AccessDenied",
    "404": NO_SUCH_KEY,
    "412": PRECONDITION_FAILED,
    "NotFound": NO_SUCH_KEY,
    "OperationAborted": CONFLICT,
}
"""Codes that mean the same as another."""

_CREDENTIALS = (
    "check the AWS credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile that "
    "AWS_PROFILE names"
)
_EXPIRED = "the AWS credentials have expired: renew them, for example by `aws sso login`, then run it again"
_REGION = "check the region (AWS_DEFAULT_REGION) and the address of the store (AWS_ENDPOINT_URL)"
_LATER = "the store is busy or broken: run it again in a few minutes"
_CHECKSUMS = "a store that refuses newer checksums needs request_checksum_calculation='when_required'"

_ADVICE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "AccessDenied": "these AWS credentials may not do that: give them the permissions in docs/destinations.md",
    "NoSuchBucket": "there is no such bucket: check its name, and the region (AWS_DEFAULT_REGION)",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": "correct the clock of this machine",
    "SlowDown": _LATER,
    "ServiceUnavailable": _LATER,
    "InternalError": _LATER,
    "500": _LATER,
    "503": _LATER,
    "NotImplemented": _CHECKSUMS,
    "InvalidRequest": _CHECKSUMS,
    NO_CONNECTION: _REGION,
    CONNECTION_LOST: _LATER,
}
"""What to do about an error code."""

# In the order in which they are asked for; each class of boto3's with the reason that is given for it.
_FAILURES: tuple[tuple[str, str, str], ...] = (
    ("NoCredentialsError", "no AWS credentials were found", _CREDENTIALS),
    ("PartialCredentialsError", "the AWS credentials are not complete", _CREDENTIALS),
    ("CredentialRetrievalError", "the AWS credentials could not be fetched", _CREDENTIALS),
    ("TokenRetrievalError", "the AWS credentials could not be fetched", _EXPIRED),
    ("SSOError", "the AWS credentials could not be fetched", _EXPIRED),
    ("LoginError", "the AWS credentials could not be fetched", _EXPIRED),
    ("EndpointConnectionError", NO_CONNECTION, _REGION),
    ("ConnectTimeoutError", NO_CONNECTION, _REGION),
    ("ProxyConnectionError", "no connection to the proxy", "check HTTPS_PROXY and NO_PROXY"),
    ("SSLError", "the store's certificate was refused", "check AWS_CA_BUNDLE"),
    ("HTTPClientError", CONNECTION_LOST, _LATER),
    ("ConnectionClosedError", CONNECTION_LOST, _LATER),
    ("IncompleteReadError", CONNECTION_LOST, _LATER),
    ("ParamValidationError", "boto3 refuses the request", "check the name of the bucket"),
)

_TALKATIVE = ("auth", "endpoint", "hooks", "parsers", "regions", "httpsession", "retryhandler", "client", "awsrequest")
"""Loggers of botocore that show requests at the level DEBUG: session tokens, signatures, metadata."""


class Bucket:
    """A bucket.

    Args:
        name: its name, or the ARN of an access point.
        client: a boto3 client for S3; by default one is made, with credentials, region and address from where boto3
            looks for them.
        request_checksum_calculation: `when_required` for stores that refuse newer checksums: content is then sent
            with its MD5 instead of its SHA-256.
        failure: the class of its errors.
    """

    def __init__(
        self,
        name: str,
        *,
        client: Any = None,
        request_checksum_calculation: ChecksumCalculation = "when_supported",
        failure: type[MeshError] = StorageError,
    ) -> None:
        self.name = name
        self.place = f"s3://{name}"
        self._failure = failure
        self._client = client or _new_client(request_checksum_calculation)
        self._closes_client = client is None
        self._has_checksums = request_checksum_calculation == "when_supported"

    def call(self, operation: str, *, expected: Collection[str] = (), **parameters: Any) -> Mapping[str, Any]:
        """Call an operation of S3, such as `head_object`. Raises Expected for a code in `expected`."""
        try:
            response: Mapping[str, Any] = getattr(self._client, operation)(Bucket=self.name, **parameters)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise self._translated(error, operation, expected) from None
        return response

    def error(self, reason: str) -> MeshError:
        """Return an error about this bucket."""
        return self._failure(f"{self.place}: {reason}")

    def close(self) -> None:
        """Close the connections of a client that was made here."""
        if self._closes_client:
            self._client.close()

    def checksum_parameters(self, content: Iterable[bytes | memoryview]) -> dict[str, str]:
        """Return parameters by which the store refuses content that was damaged on its way."""
        name = "ChecksumSHA256" if self._has_checksums else "ContentMD5"
        try:
            digest = hashlib.sha256() if self._has_checksums else hashlib.md5(usedforsecurity=False)
        except ValueError:
            return {}  # FIPS mode; the signature holds a SHA-256 of the content anyway
        for block in content:
            digest.update(block)
        return {name: base64.b64encode(digest.digest()).decode()}

    @property
    def has_checksums(self) -> bool:
        """Whether the store keeps a SHA-256 of each part and object."""
        return self._has_checksums

    def read_object(self, key: str) -> bytes | None:
        """Return a small object; None if there is none."""
        try:
            response = self.call("get_object", expected=(NO_SUCH_KEY,), Key=key)
        except Expected:
            return None
        stream = ObjectStream(self, key, str(response["ETag"]), 0, opened=response["Body"])
        try:
            return stream.read(int(response["ContentLength"]))
        finally:
            stream.close()

    def write_object(self, key: str, content: bytes) -> None:
        """Make or replace a small object."""
        self.call("put_object", Key=key, Body=io.BytesIO(content), **self.checksum_parameters([content]))

    def remove_object(self, key: str) -> None:
        """Remove an object, if it is there."""
        self.call("delete_object", Key=key)

    def list_objects(self, prefix: str) -> Iterator[str]:
        """List the keys that begin with a prefix."""
        more: dict[str, str] = {}
        while True:
            page = self.call("list_objects_v2", Prefix=prefix, **more)
            yield from (str(found["Key"]) for found in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def translate(self, error: Exception, operation: str) -> MeshError:
        """Return our error for one of boto3's that came while content was read."""
        found = self._translated(error, operation, ())
        return found if isinstance(found, MeshError) else self.error(str(found))

    def _translated(self, error: Exception, operation: str, expected: Collection[str]) -> Exception:
        if isinstance(error, botocore.exceptions.ClientError):
            response = error.response
            code = str(response.get("Error", {}).get("Code", ""))[:60]
            code = _CODES.get(code, code)
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            reason = f"S3 refused {operation}: {code if code.isprintable() else 'unknown'} (status {status})"
            advice = _ADVICE.get(code, "")
        else:
            names = {kind.__name__ for kind in type(error).__mro__}
            found = next((one for one in _FAILURES if one[0] in names), None)
            _, code, advice = found or ("", f"boto3 raised {type(error).__name__}", "")
            reason = f"{operation}: {code}"
        if code in expected:
            return Expected(code)
        return self.error(f"{reason}; {advice}" if advice else reason)


class ObjectStream:
    """The bytes of an object from one place on, read in order; a connection that is lost is made again.

    Args:
        bucket: the bucket.
        key: the object.
        etag: the ETag that it must have: of another one nothing is read.
        position: where reading begins.
        version: parameters that name a version of it.
        opened: the body of a response that begins there, if there is one.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        etag: str,
        position: int,
        *,
        version: Mapping[str, str] | None = None,
        opened: Any = None,
    ) -> None:
        self.position = position
        self._bucket = bucket
        self._parameters = {"Key": key, "IfMatch": etag, **(version or {})}
        self._body = opened

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer only at the end. Raises Expected(PRECONDITION_FAILED) if it is another object."""
        blocks: list[bytes] = []
        missing, failures = size, 0
        while missing:
            try:
                if self._body is None:
                    self._body = self._open()
                block = self._body.read(missing)
            except (botocore.exceptions.BotoCoreError, OSError) as error:
                self.close()
                failures += 1
                if failures == _ATTEMPTS:
                    raise self._bucket.translate(error, "get_object") from None
                continue
            if not block:
                break
            blocks.append(block)
            missing -= len(block)
            self.position += len(block)
            failures = 0
        return b"".join(blocks)

    def blocks(self) -> Iterator[bytes]:
        """Read to the end, a block at a time."""
        while block := self.read(_READ_BLOCK_BYTES):
            yield block

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _open(self) -> Any:
        whole = {} if self.position == 0 else {"Range": f"bytes={self.position}-"}
        expected = (PRECONDITION_FAILED, NO_SUCH_KEY, "InvalidRange")
        try:
            return self._bucket.call("get_object", expected=expected, **self._parameters, **whole)["Body"]
        except Expected as refusal:
            if refusal.code == "InvalidRange":
                return io.BytesIO()
            raise


_CLIENTS = threading.Lock()
"""boto3 makes clients in one thread at a time."""


def _new_client(request_checksum_calculation: ChecksumCalculation) -> Any:
    if boto3 is None:
        raise InvalidArgument("S3 needs boto3; run pip install 'nel-mesh[s3]'")
    _keep_quiet()
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation=request_checksum_calculation,
        response_checksum_validation=request_checksum_calculation,
    )
    try:
        with _CLIENTS:
            return boto3.session.Session().client("s3", config=config)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise InvalidArgument(
            f"S3: boto3 cannot make a client ({type(error).__name__}); check AWS_PROFILE, AWS_DEFAULT_REGION and "
            "AWS_ENDPOINT_URL"
        ) from None


def _keep_quiet() -> None:
    """Keep session tokens and signatures out of logs: at the level DEBUG boto3 writes whole requests."""
    for name in _TALKATIVE:
        logger = logging.getLogger(f"botocore.{name}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
