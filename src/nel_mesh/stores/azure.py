"""A container of Azure Blob Storage. This module knows the Azure SDK, and no other does.

Errors name the container, the operation and Azure's code: Azure's own texts quote requests.
"""

from __future__ import annotations

import base64
import io
import logging
import os
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nel_mesh.errors import InvalidArgument, MeshError, StorageError
from nel_mesh.stores.refusal import CONNECTION_LOST, NO_CONNECTION, Expected

try:
    from azure.core import MatchConditions
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError
    from azure.storage.blob import BlobBlock, BlobProperties, BlockState, ContainerClient, ExponentialRetry
except ModuleNotFoundError:
    # The names of this package can be imported without any extra.
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.identity import DefaultAzureCredential

BLOB_NOT_FOUND, BLOB_EXISTS, CONDITION_NOT_MET = "BlobNotFound", "BlobAlreadyExists", "ConditionNotMet"
MAY_NOT_OVERWRITE = "UnauthorizedBlobOverwrite"
BAD_BLOCKS = "InvalidBlockList"
_BEYOND_END = "InvalidRange"

_CONNECTION_STRING = "AZURE_STORAGE_CONNECTION_STRING"
_RETRIES = 4
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_READ_BLOCK_BYTES = 4 * 1024 * 1024
_IS_FOLDER = "hdi_isfolder"
"""The label of a folder, in an account with a hierarchical namespace: it is listed as a blob."""

_CREDENTIALS = f"check {_CONNECTION_STRING}, or the identity that DefaultAzureCredential finds (`az login`)"
_EXPIRED = f"the credentials are wrong or have expired, or the clock of this machine is wrong: {_CREDENTIALS}"
_ROLE = "these credentials may not do that: give them the role that docs/destinations.md names"
_NETWORK = "check the name of the storage account, the network, and HTTPS_PROXY"
_LATER = "the store is busy or broken: run it again in a few minutes"
_CONTAINER = "there is no such container: check its name, and that of the storage account"

_ADVICE = {
    "AuthenticationFailed": _EXPIRED,
    "InvalidAuthenticationInfo": _EXPIRED,
    "NoAuthenticationInformation": _CREDENTIALS,
    "AuthorizationPermissionMismatch": _ROLE,
    "InsufficientAccountPermissions": _ROLE,
    "AuthorizationFailure": f"{_ROLE}; or the firewall of the storage account does not let this machine in",
    "KeyBasedAuthenticationNotPermitted": (
        f"the account takes no keys: unset {_CONNECTION_STRING}, and run `pip install azure-identity`"
    ),
    "403": _ROLE,
    "ContainerNotFound": _CONTAINER,
    "ContainerBeingDeleted": _CONTAINER,
    "ResourceNotFound": _CONTAINER,
    "InvalidResourceName": "check the name of the container",
    "AccountIsDisabled": "the storage account is disabled: see its state in the Azure portal",
    "BlobImmutableDueToPolicy": "use a container without an immutability policy, as records in it are replaced",
    "LeaseIdMissing": "another program holds a lease on the blob: end it, then run it again",
    "InvalidBlobOrBlock": "another program has left unfinished blocks under this name: they vanish after 7 days",
    "BlockCountExceedsLimit": "there are too many unfinished blocks under this name: they vanish after 7 days",
    "Md5Mismatch": "the content was damaged on its way: run it again",
    "ServerBusy": _LATER,
    "OperationTimedOut": _LATER,
    "InternalError": _LATER,
    "500": _LATER,
    "503": _LATER,
    CONNECTION_LOST: _LATER,
}
"""What to do about an error code, or about a status without one."""

_CAUSES = {
    "ProxyError": ("no connection to the proxy", "check HTTPS_PROXY and NO_PROXY"),
    "SSLError": ("the store's certificate was refused", "check REQUESTS_CA_BUNDLE"),
}
"""What requests calls it, when no connection was made."""


class Container:
    """A container of blobs.

    Args:
        name: its name; empty for a client's own.
        account_url: the address of its storage account.
        connection_string: account and credentials. Default: the variable AZURE_STORAGE_CONNECTION_STRING, if it is set,
            and else the identity that DefaultAzureCredential finds.
        client: a ContainerClient in place of all that; it stays open.
        failure: the class of its errors.
    """

    def __init__(
        self,
        name: str = "",
        *,
        account_url: str | None = None,
        connection_string: str | None = None,
        client: ContainerClient | None = None,
        failure: type[MeshError] = StorageError,
    ) -> None:
        if not _IS_INSTALLED:
            raise InvalidArgument("Azure needs azure-storage-blob; run pip install 'nel-mesh[azure]'")
        self._failure = failure
        self._closes_client = client is None
        self._credential: _Credential | None = None
        if client is None:
            client = self._new_client(name, account_url, connection_string)
        self._client = client
        self.place = f"azure://{client.account_name or client.primary_hostname}/{client.container_name}"

    def _new_client(self, name: str, account_url: str | None, connection_string: str | None) -> ContainerClient:
        options: dict[str, Any] = {
            "retry_policy": ExponentialRetry(
                initial_backoff=1,
                increment_base=2,
                random_jitter_range=1,
                retry_total=_RETRIES,
                retry_connect=_RETRIES,
                retry_read=_RETRIES,
                retry_status=_RETRIES,
            ),
            "connection_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
        }
        _hide_signatures()
        text = connection_string or os.environ.get(_CONNECTION_STRING)
        if text is None:
            if account_url is None:
                raise InvalidArgument(f"Azure: give account_url or connection_string, or set {_CONNECTION_STRING}")
            _check_account_url(account_url)
            self._credential = _Credential(_default_credential(), self._translated)
            return ContainerClient(account_url, name, credential=self._credential, **options)
        try:
            client = ContainerClient.from_connection_string(text, name, **options)
        except (ValueError, KeyError, AzureError):
            raise InvalidArgument(
                f"Azure: the connection string cannot be used; copy it again (`az storage account "
                f"show-connection-string`), and check {_CONNECTION_STRING}"
            ) from None
        account = client.account_name
        if account_url is not None and account is not None and account not in _account_names(account_url):
            raise InvalidArgument(
                f"Azure: the connection string is for the storage account {account}, and not for {account_url}; "
                f"unset {_CONNECTION_STRING}, or set it to that account's"
            )
        return client

    def call(self, operation: str, key: str, *, expected: Collection[str] = (), **parameters: Any) -> Any:
        """Call an operation of a BlobClient, such as `stage_block`. Raises Expected for a code in `expected`."""
        try:
            return getattr(self._client.get_blob_client(key), operation)(**parameters)
        except AzureError as error:
            raise self._translated(error, operation, expected) from None

    def error(self, reason: str) -> MeshError:
        """Return an error about this container."""
        return self._failure(f"{self.place}: {reason}")

    def close(self) -> None:
        """Close the connections of a client that was made here."""
        if self._closes_client:
            self._client.close()
            if self._credential is not None:
                self._credential.close()

    def read_object(self, key: str) -> bytes | None:
        """Return a small object; None if there is none."""
        try:
            content: bytes = self.call("download_blob", key, expected=(BLOB_NOT_FOUND,)).readall()
        except Expected:
            return None
        except AzureError as error:
            raise self._translated(error, "download_blob") from None
        return content

    def write_object(self, key: str, content: bytes) -> None:
        """Make or replace a small object. Azure compares its MD5."""
        self.call("upload_blob", key, data=content, overwrite=True, validate_content=True)

    def create_object(self, key: str, content: bytes, labels: dict[str, str], expected: Collection[str]) -> None:
        """Make an object where there is none, in one request if it is small. Azure compares its MD5."""
        self.call(
            "upload_blob", key, expected=expected, data=content, overwrite=False, metadata=labels, validate_content=True
        )

    def remove_object(self, key: str) -> None:
        """Remove an object, if it is there."""
        try:
            self.call("delete_blob", key, expected=(BLOB_NOT_FOUND,))
        except Expected:
            return

    def list_objects(self, prefix: str) -> Iterator[str]:
        """List the keys that begin with a prefix."""
        try:
            for found in self._client.list_blobs(name_starts_with=prefix, include=["metadata"]):
                if not (found.metadata or {}).get(_IS_FOLDER):
                    yield str(found.name)
        except AzureError as error:
            raise self._translated(error, "list_blobs") from None

    def properties(self, key: str, *, expected: Collection[str] = ()) -> BlobProperties:
        """Return the properties of an object."""
        found: BlobProperties = self.call("get_blob_properties", key, expected=expected)
        return found

    def read_range(self, key: str, etag: str, position: int, length: int = _READ_BLOCK_BYTES) -> bytes:
        """Read bytes of an object from one place on; fewer only at the end.

        A lost connection is made again. Raises Expected (CONDITION_NOT_MET, BLOB_NOT_FOUND) if it is another object.
        """
        expected = (CONDITION_NOT_MET, BLOB_NOT_FOUND, _BEYOND_END)
        condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            found = self.call(
                "download_blob", key, expected=expected, offset=position, length=length, max_concurrency=1, **condition
            )
            content: bytes = found.readall()
        except Expected as refusal:
            if refusal.code == _BEYOND_END:
                return b""
            raise
        except AzureError as error:
            raise self._translated(error, "download_blob", expected) from None
        return content

    def unfinished_blocks(self, key: str) -> dict[str, int]:
        """Return the uncommitted blocks under a key: their ids, each with its length."""
        try:
            _, blocks = self.call("get_block_list", key, expected=(BLOB_NOT_FOUND,), block_list_type="uncommitted")
        except Expected:
            return {}
        return {str(block.id): int(block.size) for block in blocks}

    def put_block(self, key: str, block_id: str, content: io.RawIOBase, length: int, md5: bytes) -> None:
        """Store a block. Azure compares its MD5; `validate_content` would read the content in small pieces for it."""
        headers = {"Content-MD5": base64.b64encode(md5).decode()}
        self.call("stage_block", key, block_id=block_id, data=content, length=length, headers=headers)

    def commit_blocks(self, key: str, block_ids: list[str], labels: dict[str, str], expected: Collection[str]) -> None:
        """Make an object of its blocks where there is none; all other uncommitted blocks under that key vanish."""
        self.call(
            "commit_block_list",
            key,
            expected=expected,
            block_list=[BlobBlock(block_id, state=BlockState.UNCOMMITTED) for block_id in block_ids],
            metadata=labels,
            match_condition=MatchConditions.IfMissing,
            validate_content=True,
        )

    def _translated(self, error: AzureError, operation: str, expected: Collection[str] = ()) -> Exception:
        if isinstance(error, HttpResponseError) and error.response is not None:
            status = error.status_code
            code = getattr(error, "error_code", None)
            code = str(getattr(code, "value", code) or "")[:60]
            if not code and isinstance(error, ClientAuthenticationError):
                code = "no token"
                reason, advice = f"{operation}: the credentials were refused (status {status})", _EXPIRED
            else:
                shown = code if code.isprintable() else "unknown"
                reason = f"Azure refused {operation}: {shown or 'no code'} (status {status})"
                advice = _ADVICE.get(code) or _ADVICE.get(str(status), "")
        elif isinstance(error, ClientAuthenticationError):
            code, advice = "no credentials", _CREDENTIALS
            reason = f"{operation}: no Azure credentials that can be used"
        else:
            code, advice = _cause(error)
            reason = f"{operation}: {code}"
        if code in expected:
            return Expected(code)
        return self.error(f"{reason}; {advice}" if advice else reason)


def _cause(error: AzureError) -> tuple[str, str]:
    """Say why there was no response, and what to do."""
    if not isinstance(error, ServiceRequestError):
        return CONNECTION_LOST, _LATER
    names = {kind.__name__ for kind in type(error.inner_exception).__mro__}
    found = (cause for name, cause in _CAUSES.items() if name in names)
    return next(found, (NO_CONNECTION, _NETWORK))


class _Credential:
    """An identity whose failure is not repeated: azure-identity has tried again already, and the client would too."""

    def __init__(self, credential: DefaultAzureCredential, translate: Callable[[AzureError, str], Exception]) -> None:
        self._credential = credential
        self._translate = translate

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token for requests."""
        try:
            return self._credential.get_token(*scopes, **options)
        except AzureError as error:
            raise self._translate(error, "get_token") from None

    def close(self) -> None:
        """Close the connections."""
        self._credential.close()


def _default_credential() -> DefaultAzureCredential:
    try:
        from azure.identity import DefaultAzureCredential
    except ModuleNotFoundError:
        raise InvalidArgument(
            f"Azure: no credentials; set {_CONNECTION_STRING}, or run `pip install azure-identity` to use the identity "
            "of this machine or of `az login`"
        ) from None
    try:
        return DefaultAzureCredential()
    except ValueError:
        raise InvalidArgument("Azure: DefaultAzureCredential cannot be made; check AZURE_TOKEN_CREDENTIALS") from None


def account_url_of(host: str) -> str:
    """Return the address of the storage account that a URL names: by its name alone, or by its whole host name."""
    return f"https://{host}" if "." in host else f"https://{host}.blob.core.windows.net"


def _check_account_url(account_url: str) -> None:
    """Refuse an address that would show credentials, or that would send a token in the clear."""
    parts = urlsplit(account_url)
    if parts.query or "@" in parts.netloc:
        raise InvalidArgument("Azure: account_url holds no credentials; use connection_string, or a client")
    if parts.scheme != "https" or not parts.netloc:
        raise InvalidArgument("Azure: account_url is such as https://account.blob.core.windows.net")


def _account_names(account_url: str) -> tuple[str, str]:
    """Return the names that an account's address can give it: the first of its host, or its path (emulators)."""
    parts = urlsplit(account_url)
    return parts.netloc.partition(".")[0], parts.path.strip("/")


class _HidesSignatures(logging.Filter):
    """Drops a record that shows the signature of a SAS; urllib3 writes each URL at the level DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "sig=" not in record.getMessage()


_FILTER = _HidesSignatures()


def _hide_signatures() -> None:
    """Keep signatures out of logs. The SDK itself replaces them, and shows neither content nor labels."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_FILTER)
