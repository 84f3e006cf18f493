"""The plain library of each store: its own upload of a whole file. Its import is not measured, here or in ours."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

from measure import Measured, job, measured, report


def main() -> None:
    """Do the job."""
    asked = job()
    place = urlsplit(asked["place"])
    report(STORES[place.scheme](asked["path"], place))


def to_s3(path: str, place: Any) -> Measured:
    """boto3's upload_file."""
    import boto3

    with measured() as result:
        client = boto3.session.Session().client("s3")
        client.upload_file(path, place.netloc, f"{place.path[1:]}/library.dat")
    return result


def to_azure(path: str, place: Any) -> Measured:
    """azure-storage-blob's upload_blob."""
    from azure.storage.blob import ContainerClient

    container, _, name = place.path[1:].partition("/")
    with measured() as result, open(path, "rb") as file:  # noqa: PTH123 - a plain file, as in its documentation
        client = ContainerClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"], container)
        client.upload_blob(f"{name}/library.dat", file)
    return result


def to_sftp(path: str, place: Any) -> Measured:
    """asyncssh's put."""
    import asyncssh

    async def put() -> Measured:
        with measured() as result:
            async with (
                asyncssh.connect(place.hostname, place.port) as connection,
                connection.start_sftp_client() as client,
            ):
                folder = place.path[1:]
                await client.makedirs(folder, exist_ok=True)
                await client.put(path, f"{folder}/library.dat")
        return result

    return asyncio.run(put())


STORES = {"s3": to_s3, "azure": to_azure, "sftp": to_sftp}

if __name__ == "__main__":
    main()
