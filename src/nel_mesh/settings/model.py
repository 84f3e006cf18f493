"""The settings of one mailbox: their names, meanings, limits and defaults.

`sources.py` and `files.py` read them; here they are validated. One ConfigurationError has every fault, and neither it
nor a repr holds a secret.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict, Unpack
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from nel_mesh._version import __version__
from nel_mesh.errors import ConfigurationError, SettingFault
from nel_mesh.settings import files, sources
from nel_mesh.settings.proxies import environment_proxy
from nel_mesh.settings.sources import Given, Reading
from nel_mesh.tracebacks import without_locals

ENVIRONMENTS = {
    "integration": "https://msg.intspineservices.nhs.uk",
    "deployment": "https://msg.depspineservices.nhs.uk",
    "production": "https://mesh-sync.spineservices.nhs.uk",
}
"""NHS England's environments, by the names that `url` takes instead of an address."""

DIRECT = ("none", "direct")
"""The values of `proxy` that mean no proxy, whatever the environment says."""

_MEGABYTE = 1_000_000  # as in protocol/chunks.py, which is above this module and cannot be imported here

# No wait can be meant to be longer, and sockets fail on much larger numbers.
_WEEK_IN_SECONDS = 7 * 24 * 60 * 60

Certificate = str | os.PathLike[str]
Secret = str | SecretStr


class SettingsKeywords(TypedDict, total=False):
    """The keyword arguments of MeshSettings. None and empty values count as not given."""

    mailbox_id: str | None
    password: Secret | None
    shared_key: Secret | None
    url: str | None
    allow_plain_http: bool | None
    mex_client_version: str | None
    mex_os_name: str | None
    mex_os_version: str | None
    mex_os_architecture: str | None
    mex_java_version: str | None
    tls_root_certificates: Certificate | list[str] | list[Path] | tuple[Certificate, ...] | None
    tls_intermediate_certificates: Certificate | list[str] | list[Path] | tuple[Certificate, ...] | None
    client_signing_certificate: Certificate | SecretStr | None
    client_signing_key: Certificate | SecretStr | None
    client_signing_certificate_password: Secret | None
    max_chunk_size_in_megabytes: float | None
    max_request_timeout_in_seconds: float | None
    connect_timeout_in_seconds: float | None
    read_timeout_in_seconds: float | None
    write_timeout_in_seconds: float | None
    response_head_timeout_in_seconds: float | None
    min_bytes_per_second: float | None
    max_attempts: int | None
    retry_initial_delay_in_seconds: float | None
    retry_max_delay_in_seconds: float | None
    max_retry_after_in_seconds: float | None
    max_connections: int | None
    chunks_at_once: int | None
    max_message_size_in_megabytes: float | None
    strict_checksums: bool | None
    proxy: Secret | None
    proxy_user: str | None
    proxy_password: Secret | None
    proxy_root_certificates: Certificate | list[str] | list[Path] | tuple[Certificate, ...] | None
    spool_directory: str | os.PathLike[str] | None
    default_to: str | None
    default_workflow_id: str | None


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):  # which pydantic would take for 0 or 1
        raise ValueError("must be a number")  # noqa: TRY004  pydantic lets a TypeError through
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _mailbox_id(value: str) -> str:
    value = value.strip().upper()
    if not re.fullmatch(r"[A-Z0-9_-]{1,100}", value, re.ASCII):
        raise ValueError("a mailbox id has letters, digits, - and _ only, and at most 100; give it as it was issued")
    return value


def _without_blanks(value: str) -> str:
    # With one of these every request would be refused, or no key opened, and nothing would show why.
    if any(character in value for character in "\r\n\t\0"):
        raise ValueError("it holds a line break or another control character; give it without")
    if value != value.strip():
        raise ValueError("it begins or ends with a blank; give it without")
    return value


def _credential(value: SecretStr) -> SecretStr:
    _without_blanks(value.get_secret_value())
    return value


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _header(value: str) -> str:
    value = value.strip()
    if not (value.isascii() and value.isprintable()):
        raise ValueError("it goes into an HTTP header; use printable ASCII characters only")
    return value


def _split(url: str) -> SplitResult | None:
    """Split a URL; None if it is not one. The library's own errors would quote it."""
    try:
        parts = urlsplit(url)
        # Resolving a name raises for a part that is empty or over 63 characters, and not an OSError.
        (parts.hostname or "").encode("idna")
        usable = parts.hostname and parts.port != 0 and url.isascii() and not re.search(r"[\s\\]", url)
    except ValueError:
        return None
    return parts if usable else None


def _url(value: str) -> str:
    value = value.strip()
    if value.casefold() in ENVIRONMENTS:
        return ENVIRONMENTS[value.casefold()]
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https"):
        raise ValueError(f"must be an http or https address, or one of {', '.join(ENVIRONMENTS)}")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password; mailbox_id and password are settings of their own")
    if "?" in value or "#" in value:
        raise ValueError("must not hold a query or fragment; end it after the path")
    path = parts.path.rstrip("/")
    if path.endswith("/messageexchange"):
        raise ValueError("must end before /messageexchange, which is added to it")
    return f"{parts.scheme}://{parts.netloc}{path}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost` and names under it, 127.0.0.0/8 and ::1."""
    name = host.casefold().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _proxy_url(value: str) -> str:
    value = value.strip()
    url = value if "://" in value else f"http://{value}"  # host:port is how most people write a proxy
    parts = _split(url)
    if parts is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "must be like http://host:port; percent-encode special characters of a user or password in it,"
            " or give them apart as proxy_user and proxy_password"
        )
    if parts.scheme not in ("http", "https"):
        raise ValueError("must be an http or https proxy; for none at all, set proxy to 'none'")
    return f"{parts.scheme}://{parts.netloc}"


def _proxy(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    return SecretStr(text.casefold() if text.casefold() in DIRECT else _proxy_url(text))


def _folder(value: Path) -> Path:
    try:
        folder = value.expanduser()
    except RuntimeError:
        raise ValueError("must be a path without ~: there is no such home folder here") from None
    if not folder.is_dir():
        raise ValueError("must be an existing folder; create it, or leave the setting out")
    return folder


def _for_header(value: str) -> str:
    """The platform's name of something, made fit for a header."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value) or "unknown"


_Header = Annotated[str, AfterValidator(_header)]
_UserName = Annotated[str, AfterValidator(_without_blanks)]
_Credential = Annotated[SecretStr, AfterValidator(_credential)]
_Certificates = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
_Number = Annotated[float, BeforeValidator(_not_a_bool), Field(allow_inf_nan=False)]
_Whole = Annotated[int, BeforeValidator(_not_a_bool)]
_Timeout = Annotated[_Number, Field(gt=0, le=_WEEK_IN_SECONDS)]
_Delay = Annotated[_Number, Field(ge=0, le=_WEEK_IN_SECONDS)]


@without_locals
class MeshSettings(BaseModel):
    """The settings of one mailbox. Immutable.

    Each setting comes from the first of these that gives it:

    1. a keyword argument: `MeshSettings(mailbox_id="X26ABC1", ...)`;
    2. the environment variable `MESH_MAILBOX_ID`;
    3. .NET's environment variable `MeshConfiguration__MailboxId` (and
       `MeshConfiguration__TlsRootCertificates__0`);
    4. the file, with `MeshSettings.from_file(path)`: NEL.MESH's `appsettings.json`, or JSON or TOML with the
       names below at the top level;
    5. the default.

    None, empty text and empty lists count as not given, in every source. Numbers may be written as text.
    Names of environment variables may be in upper or lower case. A list in a `MESH_` variable is a JSON list
    of strings, or else one item. Unknown names are faults, except a `MESH_` variable that resembles none of
    ours: it is another program's.

    A certificate or key is given as base64 (of DER, PEM, PKCS#7 or PKCS#12), as PEM text, or as the path of a
    file with any of these. A relative path is relative to the working directory.

    Raises:
        ConfigurationError: with every fault in `faults`, each with its setting, source, kind and cure.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, coerce_numbers_to_str=True
    )

    mailbox_id: Annotated[str, AfterValidator(_mailbox_id)]
    """The mailbox that sends and receives, such as X26ABC1; kept in upper case. Required."""
    password: _Credential
    """The mailbox's password. Required."""
    shared_key: _Credential
    """The environment's shared secret, from NHS England. Required: there is no built-in one."""
    allow_plain_http: bool = False
    """Allow `url` to be http to another machine, such as a test server in another container. Messages and tokens
    are then sent unencrypted."""
    url: Annotated[str, AfterValidator(_url)]
    """The server's address (https; http to this machine; a path is kept), or integration, deployment or
    production. Required."""

    mex_client_version: _Header = Field(default=f"nel-mesh=={__version__}")
    """The client's name and version in the handshake. Default: nel-mesh==<its version>."""
    mex_os_name: _Header = Field(default_factory=lambda: _for_header(platform.system()))
    """The operating system's name in the handshake. Default: the system's own."""
    mex_os_version: _Header = Field(default_factory=lambda: _for_header(platform.release()))
    """The operating system's version in the handshake. Default: the system's own."""
    mex_os_architecture: _Header = Field(default_factory=lambda: _for_header(platform.machine()))
    """The machine's architecture in the handshake. Default: the system's own."""
    mex_java_version: _Header | None = None
    """The version of Java, for servers that demand this header of the Java client's; `N/A` is what the official
    client in Python says. None given: the header is not sent."""

    tls_root_certificates: _Certificates = Field(default=(), repr=False)
    """The roots to trust in the server's certificate, and no others; may be one bundle with intermediates. None
    given: the system's."""
    tls_intermediate_certificates: _Certificates = Field(default=(), repr=False)
    """Certificates that complete a chain, the server's or the client's. They are not trusted by themselves."""
    client_signing_certificate: SecretStr | None = None
    """The client certificate, which may include its key and chain. None given: no client certificate is shown."""
    client_signing_key: SecretStr | None = None
    """The client certificate's private key, if it is not in the same file."""
    client_signing_certificate_password: _Credential | None = None
    """The password of the private key, or of the PKCS#12 file."""

    max_chunk_size_in_megabytes: Annotated[_Number, Field(gt=0, le=100)] = 20
    """The size of a chunk, before compression; 1 MB = 1,000,000 bytes. More than 0, at most 100."""
    max_request_timeout_in_seconds: _Timeout | None = None
    """NEL.MESH's single timeout: sets the read and the write timeout, unless those are given."""
    connect_timeout_in_seconds: _Timeout = 10
    """For name resolution, TCP and TLS together. Short, since a healthy server takes well under a second, and a
    failed connection is always safe to retry."""
    read_timeout_in_seconds: _Timeout = 60
    """For each wait for received bytes, not for the whole transfer, which has no limit."""
    write_timeout_in_seconds: _Timeout = 60
    """For each wait to send bytes, not for the whole transfer, which has no limit."""
    response_head_timeout_in_seconds: _Timeout | None = None
    """The longest time for the whole head of a response, from the end of its request. Default: twice the
    read timeout."""
    min_bytes_per_second: Annotated[_Number, Field(ge=0)] = 100
    """The lowest speed of a body, sent or received, over a minute of waiting for it. Slower counts as a broken
    connection. 0: no limit."""

    max_attempts: Annotated[_Whole, Field(ge=1, le=100)] = 5
    """The number of attempts at a request, where a retry is safe. 1: no retries."""
    retry_initial_delay_in_seconds: _Delay = 0.5
    """The wait before the first retry, approximately; each later wait is longer."""
    retry_max_delay_in_seconds: _Delay = 30
    """The longest wait before a retry, unless the server asks for a longer one."""
    max_retry_after_in_seconds: _Delay = 300
    """The longest wait that a server may ask for (Retry-After). If it asks for a longer one, the call fails at once."""
    max_connections: Annotated[_Whole, Field(ge=1, le=10_000)] = 100
    """The number of connections that may be open at the same time."""
    chunks_at_once: Annotated[_Whole, Field(ge=1, le=16)] = 4
    """The maximum number of chunks of one message that are fetched at the same time when it is received into a
    file: two, or more if they arrive slowly. Prefetched chunks wait on that file's disk, up to 268 MB each, and
    use up to half of the connections. 1: no prefetching."""

    max_message_size_in_megabytes: Annotated[_Number, Field(gt=0, le=1_000_000)] = 100_000
    """The longest content that is received, in MB of 1,000,000 bytes. A longer message fails, and stays in the
    inbox. A lower limit keeps a message that expands when it is decompressed from filling the disk.
    Default: 100,000, the most that MESH carries."""

    strict_checksums: bool = False
    """Whether a message is refused if its checksum is not that of its content, although the sender did not name the
    algorithm. If not, such content is kept, and reported as not verified. A checksum with its algorithm is always
    enforced. Default: no."""

    proxy: Annotated[SecretStr, AfterValidator(_proxy)] | None = None
    """The HTTP proxy, http://host:port, with user:password@ if it needs them. 'none' or 'direct': no proxy, even
    if the environment has one. Default: from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""
    proxy_user: _UserName | None = None
    """The proxy's user, if it is not in `proxy`, or the environment names the proxy. Wins over a user there."""
    proxy_password: _Credential | None = None
    """The password of `proxy_user`."""
    proxy_root_certificates: _Certificates = Field(default=(), repr=False)
    """The authorities to trust in the certificate of an https proxy. None given: the system's."""

    spool_directory: Annotated[Path, BeforeValidator(_stripped), AfterValidator(_folder)] | None = None
    """The folder of temporary files: content of unknown length and compressed chunks until they are sent, and messages
    of `iter_messages`, each from 4 MiB on. Must exist. Default: the system's temporary folder."""

    default_to: Annotated[str, AfterValidator(_mailbox_id)] | None = None
    """The recipient of `nel-mesh send` without `--to`; for a profile that sends to one mailbox."""
    default_workflow_id: _Header | None = None
    """The workflow id of `nel-mesh send` without `--workflow-id`."""

    _labels: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **keywords: Unpack[SettingsKeywords]) -> None:
        self._fill(Reading(), keywords)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, profile: str | None = None, **keywords: Unpack[SettingsKeywords]
    ) -> Self:
        """Load the settings from a file, too; the environment and keyword arguments win over it.

        Args:
            path: NEL.MESH's `appsettings.json`; or JSON or TOML with the settings' own names at the top
                level.
            profile: the name of one of the file's profiles, such as a mailbox's, whose settings win over those
                outside of profiles. None: only those outside. See `profiles`.
            keywords: settings, as for the class.

        Raises:
            ConfigurationError: as for the class; also if the file cannot be read, or has no such profile.
        """
        settings = cls.__new__(cls)
        reading = files.from_file(path, cls.model_fields, profile)
        name = Path(path).name
        chosen = profile and profile.strip()
        settings._fill(reading, keywords, file=f"profile '{chosen}' of {name}" if chosen else name)
        return settings

    def _fill(self, from_file: Reading, keywords: SettingsKeywords, file: str | None = None) -> None:
        fields = type(self).model_fields
        reading = sources.combine(
            [
                from_file,
                sources.from_environment(
                    os.environ,
                    fields,
                    ("tls_root_certificates", "tls_intermediate_certificates", "proxy_root_certificates"),
                ),
                sources.from_keywords(keywords, fields),
            ]
        )
        given = _with_request_timeout(reading.given)
        labels = {name: value.label for name, value in given.items()}
        faults = list(reading.faults)
        try:
            values: dict[str, Any] = {name: value.value for name, value in given.items()}
            super().__init__(**values)
        except ValidationError as error:
            # Without the input, which may be secret.
            details = error.errors(include_input=False, include_url=False)
            faults += (_fault(detail, labels, from_file.spell, file or "a settings file") for detail in details)
        if faults:
            # Raised out here: in the handler the ValidationError, which holds the input, would be its
            # context.
            refused = ConfigurationError.of(faults)
            if all(fault.kind == "unknown_name" for fault in faults):
                self._labels = labels
                refused.settings = self
            raise refused
        self._labels = labels

    @field_validator("url")
    @classmethod
    def _encrypted(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not info.data.get("allow_plain_http"):
            raise ValueError(
                "must be https: over http, messages and tokens would go unencrypted to another machine;"
                " for a test server set allow_plain_http"
            )
        return value

    @field_validator("client_signing_key")
    @classmethod
    def _key_has_certificate(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("client_signing_certificate", value) is None:
            raise ValueError("there is no client_signing_certificate for this key; give that too")
        return value

    @field_validator("retry_max_delay_in_seconds")
    @classmethod
    def _delays_in_order(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_initial_delay_in_seconds", value):
            raise ValueError("must not be less than retry_initial_delay_in_seconds")
        return value

    @field_validator("proxy_password")
    @classmethod
    def _password_has_user(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("proxy_user", "") is None:
            raise ValueError("there is no proxy_user for this password; give that too")
        return value

    def __eq__(self, other: object) -> bool:
        # Where settings come from makes no difference; pydantic would compare that as well.
        return isinstance(other, MeshSettings) and self.__dict__ == other.__dict__

    @property
    def chunk_bytes(self) -> int:
        """`max_chunk_size_in_megabytes` in bytes."""
        return max(1, round(self.max_chunk_size_in_megabytes * _MEGABYTE))

    @property
    def max_message_bytes(self) -> int:
        """`max_message_size_in_megabytes` in bytes."""
        return max(1, round(self.max_message_size_in_megabytes * _MEGABYTE))

    def source_of(self, setting: str) -> str:
        """Where a setting was given, in the words of its source, such as "environment variable MESH_URL".

        Args:
            setting: the setting's name in this class; returned unchanged for one that has its default.
        """
        return self._labels.get(setting, setting)

    def proxy_for_url(self) -> SecretStr | None:
        """The URL of the proxy by which to reach `url`, user and password in it; None for a direct
        connection.

        The setting `proxy` wins; 'none' or 'direct' there means no proxy. Without it the environment says:
        HTTPS_PROXY or HTTP_PROXY by the scheme of `url`, then ALL_PROXY, unless NO_PROXY names the host
        (a name, a domain, an address or a range, with or without a port); lower case wins over
        upper. In both cases `proxy_user` and `proxy_password` replace a user and password in the URL.

        Raises:
            ConfigurationError: the environment's proxy is not an HTTP proxy's address.
        """
        if self.proxy is not None:
            text = self.proxy.get_secret_value()
            return None if text in DIRECT else SecretStr(self._with_proxy_user(text))
        found = environment_proxy(self.url, os.environ)
        if found is None:
            return None
        variable, text = found
        try:
            return SecretStr(self._with_proxy_user(_proxy_url(text)))
        except ValueError as error:
            fault = SettingFault("proxy", f"environment variable {variable}", "invalid", str(error))
        raise ConfigurationError.of([fault])

    def _with_proxy_user(self, proxy: str) -> str:
        if self.proxy_user is None:
            return proxy
        user = quote(self.proxy_user, safe="")
        if self.proxy_password is not None:
            user += ":" + quote(self.proxy_password.get_secret_value(), safe="")
        parts = urlsplit(proxy)
        return f"{parts.scheme}://{user}@{parts.netloc.rpartition('@')[2]}"


def _with_request_timeout(given: dict[str, Given]) -> dict[str, Given]:
    limit = given.get("max_request_timeout_in_seconds")
    if limit is None:
        return given
    return {"read_timeout_in_seconds": limit, "write_timeout_in_seconds": limit} | given


_IN_PLAIN_WORDS = {
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "finite_number": "must be finite",
    "string_type": "must be text",
    "path_type": "must be a path",
    "tuple_type": "must be a list of texts",
}
"""Pydantic's types of error, in the words of a settings file's author."""


def _fault(detail: ErrorDetails, labels: dict[str, str], spell: Callable[[str], str], file: str) -> SettingFault:
    """One of pydantic's errors as a fault."""
    name, *place = detail["loc"]
    name = str(name)
    if detail["type"] == "missing":
        variable = sources.variable_name(name)
        message = f"it is required, and not given; set {variable}, or put {spell(name)} in {file}"
        return SettingFault(name, name, "missing", message)
    label = labels.get(name, name)
    for index in place:
        label += f", item {int(index) + 1}" if isinstance(index, int) else ""
    raised = detail.get("ctx", {}).get("error")
    message = str(raised) if raised else detail["msg"].replace("Input should be", "must be")
    return SettingFault(name, label, "invalid", _IN_PLAIN_WORDS.get(detail["type"], message))
