"""The stores that messages are received into, each a server of the tests on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.environments import ROOT

sys.path.append(str(ROOT / "tests"))
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
    """SeaweedFS."""
    with seaweedfs(folder / "s3") as url:
        bucket = S3(url)

        def take() -> list[int]:
            lengths = [
                bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentLength"] for key in bucket.messages()
            ]
            S3(url)
            return lengths

        yield Store(f"s3://{bucket.bucket}/bench", s3_environment(url), take)


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
