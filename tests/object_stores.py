"""S3 and Azure behind one face, so that each test of a destination is written once and run against both."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from faulty_proxy import FaultyProxy, store_error
from nel_mesh import AzureDestination, S3Destination
from stores import AZURE_KEY, S3, S3_SECRET, Azure, azure_environment


class ObjectStore:
    """An emptied store, and a proxy before it that breaks chosen requests.

    Attributes:
        PART: the requests that send a part, as a regular expression of their first line; a block in Azure.
        SECOND_CHUNK: those that send the first part of the second chunk of `store_messages.CHUNKS`.
        COMPLETE: those that make an object of its parts.
        PUT: those that make a message's object at once.
        REFUSAL: the code of a refusal of `SECOND_CHUNK`.
        CREDENTIALS: the variables that hold credentials.
        NO_CREDENTIALS, NO_CONNECTION: what an error says where they, or the server, are missing.
        SEPARATOR: what stands in the names of labels between their words.
        LOGGERS: the loggers of the store's library.
        SECRETS: what it may not log.
    """

    PART: str
    SECOND_CHUNK: str
    COMPLETE: str
    PUT: str
    REFUSAL: str
    CREDENTIALS: tuple[str, ...]
    NO_CREDENTIALS: str
    NO_CONNECTION: str
    SEPARATOR: str
    LOGGERS: frozenset[str]
    SECRETS: tuple[str, ...]

    def __init__(self, server: Any, proxy: FaultyProxy) -> None:
        self.server = server
        self.place: str = server.place
        self.proxy = proxy

    def messages(self) -> list[str]:
        """The keys of objects that are messages, and not our state."""
        found: list[str] = self.server.messages()
        return found

    def content(self, key: str) -> bytes:
        found: bytes = self.server.content(key)
        return found

    def refuse_second_chunk(self) -> None:
        """Let a run fail, with the parts of the first chunk and their record in the store."""
        self.proxy.add(self.SECOND_CHUNK, "respond", status=403, body=store_error(self.REFUSAL), times=10)

    def destination(self, url: str = "", **options: Any) -> Any:
        """A destination with a client of its caller's, through the proxy or to that address."""
        raise NotImplementedError

    def own_client(self, **options: Any) -> Any:
        """A destination that makes its client."""
        raise NotImplementedError

    def put(self, key: str, content: bytes, message_id: str = "") -> None:
        """Store an object, as another program does, or as another worker does that has received a message."""
        raise NotImplementedError

    def labels(self, key: str) -> dict[str, str]:
        """The metadata of an object that tells the message."""
        raise NotImplementedError

    def unfinished(self) -> list[str]:
        """The keys under which parts are left."""
        raise NotImplementedError

    def add_folder(self, key: str) -> None:
        """Make the store list a folder of that name, if it can."""

    def spoil_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set others in the environment, which the store refuses."""
        raise NotImplementedError


class S3Store(ObjectStore):
    PART = r"PUT /\S*partNumber="
    SECOND_CHUNK = PART + "2"
    COMPLETE = r"POST /\S*uploadId="
    PUT = r"PUT /\S*/in/[^.?]*(\?x-id=PutObject)? "
    REFUSAL = "AccessDenied"
    CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    NO_CREDENTIALS = "no AWS credentials were found"
    NO_CONNECTION = "no connection; check the region"
    SEPARATOR = "-"
    LOGGERS = frozenset({"botocore"})
    SECRETS = (S3_SECRET, "canary-session-token", "Signature")
    server: S3

    def destination(self, url: str = "", **options: Any) -> S3Destination:
        client = self.server.new_client(url or self.proxy.url)
        return S3Destination(bucket=self.server.bucket, key="in/{message_id}", client=client, **options)

    def own_client(self, **options: Any) -> S3Destination:
        return S3Destination(bucket=self.server.bucket, **options)

    def put(self, key: str, content: bytes, message_id: str = "") -> None:
        labels = {"mesh-message-id": message_id} if message_id else {}
        self.server.client.put_object(Bucket=self.server.bucket, Key=key, Body=content, Metadata=labels)

    def labels(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self.server.client.head_object(Bucket=self.server.bucket, Key=key)["Metadata"]
        return found

    def unfinished(self) -> list[str]:
        return self.server.uploads()

    def spoil_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-token")


def block_number(number: int) -> str:
    """The end of a block's id in a request line: base64 of a dash and five digits, then percent-encoded."""
    # 32 digits and the dash are 33 bytes, so the number begins a group of four.
    return quote(base64.b64encode(f"{number:05}".encode()).decode(), safe="")


class AzureStore(ObjectStore):
    PART = r"PUT /\S*comp=block&"
    SECOND_CHUNK = f"{PART}.*{block_number(2)}"
    COMPLETE = r"PUT /\S*comp=blocklist"
    PUT = r"PUT /\S*/in/[^.?/]* "
    REFUSAL = "AuthorizationFailure"
    CREDENTIALS = ("AZURE_STORAGE_CONNECTION_STRING",)
    # DefaultAzureCredential may look into the environment only, which has none.
    NO_CREDENTIALS = "no Azure credentials that can be used; check AZURE_STORAGE_CONNECTION"
    NO_CONNECTION = "no connection; check the name of the storage account"
    SEPARATOR = "_"
    LOGGERS = frozenset({"azure", "urllib3"})
    SECRETS = (AZURE_KEY, "canary-sig", "SharedKey ")
    server: Azure

    def destination(self, url: str = "", **options: Any) -> AzureDestination:
        client = self.server.new_client(url or self.proxy.url)
        return AzureDestination(client=client, key="in/{message_id}", **options)

    def own_client(self, **options: Any) -> AzureDestination:
        return AzureDestination(container=self.server.container, **options)

    def put(self, key: str, content: bytes, message_id: str = "") -> None:
        labels = {"mesh_message_id": message_id} if message_id else {}
        self.server.client.upload_blob(key, content, metadata=labels, overwrite=True)

    def labels(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self.server.client.get_blob_client(key).get_blob_properties().metadata
        assert found.pop("mesh_sha256")
        return found

    def unfinished(self) -> list[str]:
        return [key for key in self.messages() if self.server.blocks(key)]

    def add_folder(self, key: str) -> None:
        # So an account with a hierarchical namespace lists its folders.
        self.server.client.upload_blob(key, b"", metadata={"hdi_isfolder": "true"})

    def spoil_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connection_string = azure_environment(self.server.url)["AZURE_STORAGE_CONNECTION_STRING"]
        sas = connection_string.replace(f"AccountKey={AZURE_KEY}", "SharedAccessSignature=sv=2024-01-01&sig=canary-sig")
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", sas)
