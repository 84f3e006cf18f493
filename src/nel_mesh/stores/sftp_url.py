"""URLs of files and folders on servers of SFTP."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from nel_mesh.errors import InvalidArgument


class SftpUrl(NamedTuple):
    """`sftp://[user@]host[:port]/path`, in its parts.

    Attributes:
        host: the server, or a `Host` of the ssh configuration; empty if there is none.
        port: its port, if it is named.
        username: the account, if it is named.
        path: relative to where the account begins, as with `sftp` and `scp`; of `sftp://host//srv/in` it is `/srv/in`.
        query: what follows a question mark.
    """

    host: str
    port: int | None
    username: str | None
    path: str
    query: str

    @classmethod
    def split(cls, url: str, argument: str) -> SftpUrl:
        """Split a URL, which `argument` names in error texts.

        Raises:
            InvalidArgument: it has a password, which it may not hold, a fragment, or a port that is no number.
        """
        parts = urlsplit(url)
        if parts.password is not None:
            raise InvalidArgument(
                f"{argument}: a URL holds no password; use a key or the ssh agent, or give ssh_options"
            )
        if parts.fragment:
            raise InvalidArgument(f"{argument}: a URL ends before its #; write %23 for one in a name")
        try:
            port = parts.port
        except ValueError:
            raise InvalidArgument(f"{argument}: the port of a URL is a number from 1 to 65535") from None
        username = unquote(parts.username) if parts.username else None
        return cls(parts.hostname or "", port, username, unquote(parts.path.removeprefix("/")), parts.query)
