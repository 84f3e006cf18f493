"""The stores that messages are received into, each a server of the tests on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import trustme

from benchmarks.environments import ROOT

sys.path.append(str(ROOT / "tests"))
from ports import free_ports
from sshd import sshd
from stores import S3, Azure, azure_environment, azurite, s3_environment, seaweedfs


@dataclasses.dataclass(frozen=True)
class Store:
    """A running store.

    Attributes:
        place: its URL as a destination.
        environment: the variables by which clients find it and their credentials.
        take: return the lengths of the messages in it, and remove them.
    """

    place: str
    environment: Mapping[str, str]
    take: Callable[[], list[int]]


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Store]:
    """SeaweedFS, over TLS as the server of SFTP is: over plain HTTP, boto3 hashes all content once more to sign it."""
    authority = trustme.CA()
    certificate, (port,) = authority.issue_cert("127.0.0.1"), free_ports(1)
    pem, root = folder / "s3.pem", folder / "s3-root.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(root)
    flags = (f"-s3.port.https={port}", f"-s3.cert.file={pem}", f"-s3.key.file={pem}")
    with seaweedfs(folder / "s3", *flags) as url:
        bucket = S3(url)
        # The first write has it make its volumes, for seconds.
        bucket.client.put_object(Bucket=bucket.bucket, Key="bench/first", Body=b"first")
        bucket.client.delete_object(Bucket=bucket.bucket, Key="bench/first")

        def take() -> list[int]:
            lengths = [
                bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentLength"] for key in bucket.messages()
            ]
            S3(url)
            return lengths

        environment = {**s3_environment(f"https://127.0.0.1:{port}"), "AWS_CA_BUNDLE": str(root)}
        yield Store(f"s3://{bucket.bucket}/bench", environment, take)


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[Store]:
    """Azurite."""
    with azurite(folder / "azure") as url:
        container = Azure(url)

        def take() -> list[int]:
            found = list(container.client.list_blobs())
            for blob in found:
                container.client.delete_blob(blob.name)
            return [blob.size for blob in found if ".nel-mesh/" not in blob.name]

        yield Store(f"{container.place}/bench", azure_environment(url), take)


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Store]:
    """OpenSSH's sshd."""
    (folder / "sftp").mkdir()
    with sshd(folder / "sftp") as account:

        def take() -> list[int]:
            found = [path for path in account.folder.rglob("*") if path.is_file()]
            lengths = [path.stat().st_size for path in found if ".nel-mesh" not in path.parts]
            for path in found:
                path.unlink()
            return lengths

        yield Store(account.url("bench"), {"HOME": str(account.home)}, take)


STORES = {"s3": s3, "azure": azure, "sftp": sftp}
