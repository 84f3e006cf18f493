"""What a destination has stored, read again by the location that it gave: in a store, or on this machine.

A location is no URL to type: nothing in it is quoted, and there is no account in it.
"""

from __future__ import annotations

from pathlib import Path

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.content import Content, NothingThere, RemoteSource, file_content
from nel_mesh.stores.sftp_url import SftpUrl
from nel_mesh.stores.urls import scheme_of


def open_stored(destination: str, location: str) -> Content:
    """Open what was stored.

    Args:
        destination: the place that it was stored to, by path or URL.
        location: where it is since then.

    Raises:
        NothingThere: it is not there any more.
        SourceError: it cannot be read, or its store cannot be asked.
        InvalidArgument: there is no such kind of store, or its extra is not installed.
    """
    if scheme_of(location) is not None:
        return _source(destination, location).open()
    if not Path(location).exists():
        raise NothingThere("content: it is not in its folder any more")
    content = file_content(Path(location))
    if content is None:
        raise SourceError("content: it is no file")
    return content


def _source(destination: str, location: str) -> RemoteSource:
    scheme, _, rest = location.partition("://")
    host, _, path = rest.partition("/")
    match scheme:
        case "s3":
            from nel_mesh.sources.s3 import S3Source

            return S3Source(bucket=host, key=path)
        case "azure":
            from nel_mesh.sources.azure import AzureSource
            from nel_mesh.stores.azure import account_url_of

            container, _, name = path.partition("/")
            return AzureSource(container=container, name=name, account_url=account_url_of(host))
        case "sftp":
            from nel_mesh.sources.sftp import SftpSource

            server, account = SftpUrl.split(f"sftp://{host}", "location"), SftpUrl.split(destination, "destination")
            return SftpSource(host=server.host, port=server.port, username=account.username, path=path)
        case _:
            raise InvalidArgument(f"content: {scheme}:// cannot be read from")
