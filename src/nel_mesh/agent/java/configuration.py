"""The Java client's `meshclient.cfg`, read as it is: every `<Client>` becomes a mailbox of the agent.

Unknown elements are ignored, as that client does. `ServerRetry`, `MaxMessages`, `MaxConnections`, `AutoUpgrade` and
`ProxyPath` have no counterpart: the agent retries until MESH has a message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import SecretStr

from nel_mesh import ConfigurationError, MeshSettings, SettingFault, StorageError
from nel_mesh.agent.configuration import AgentConfiguration, MailboxPlan, load
from nel_mesh.agent.java import folders
from nel_mesh.agent.tables import JAVA, POLL_INTERVAL_IN_MINUTES, Defaults, Mailbox, Options, ReceiveRoute, SendRoute
from nel_mesh.settings import is_loopback
from nel_mesh.tls import Unreadable, read, trusted_in

_MAX_BYTES = 1_000_000
_JAVA_FORMATS = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
"""How key stores of the types JKS and JCEKS begin."""
_FLAGS = {"CollectReport": True, "TransferReport": False, "DelayReport": False, "PollReport": False, "SaveSent": True}
"""What holds where the element is not there."""
_YES, _NO = ("Y", "YES", "TRUE"), ("N", "NO", "FALSE")

_MAX_CHUNK_IN_MEGABYTES = 100
"""The most that MESH takes in one request: a file without AllowChunking is sent in one, or not at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class JavaClient:
    """One `<Client>`.

    Attributes:
        mailbox_id: `ClientIdentity`.
        password: `ClientAuthentication`.
        root: `InterfaceRoot`.
        flags: the names of the reports and of `SaveSent`, and whether they are wanted.
    """

    mailbox_id: str
    password: SecretStr
    root: Path
    flags: dict[str, bool]


@dataclasses.dataclass(frozen=True, slots=True)
class JavaConfiguration:
    """A `meshclient.cfg`.

    Attributes:
        path: the file.
        url: `PrimaryURL`.
        shared_key: `AuthenticationKey`; None if it has none, as before version 6.3.
        keystore: `KeyStorePath`, if the URL is https.
        keystore_password: `KeyStorePassword`.
        poll_in_minutes: `PollPeriod`.
        processing_delay_in_seconds: `ProcessingDelay`.
        work: `WorkPath`, or the file's folder.
        signal_file: `mexclient.sig` in `SignalPath`; None without that.
        clients: every `<Client>`.
    """

    path: Path
    url: str
    shared_key: SecretStr | None
    keystore: Path | None
    keystore_password: SecretStr | None
    poll_in_minutes: float
    processing_delay_in_seconds: float
    work: Path
    signal_file: Path | None
    clients: tuple[JavaClient, ...]


def read_configuration(path: Path) -> JavaConfiguration:
    """Read a `meshclient.cfg`.

    Raises:
        ConfigurationError: it has faults; each is listed by its element.
    """
    root = _root(path)
    faults: list[SettingFault] = []

    def fault(name: str, message: str) -> None:
        faults.append(SettingFault(None, f"<{name}> in {path.name}", "invalid", message))

    def number(name: str, default: float, least: float, most: float) -> float:
        text = _text(root, name)
        try:
            value = float(text) if text else default
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            fault(name, f"it must be a number from {least:g} to {most:g}; the Java client's default is {default:g}")
        return value

    base = path.absolute().parent
    url = _text(root, "PrimaryURL").rstrip("/")
    if not url.startswith(("https://", "http://")):
        fault("PrimaryURL", "it must be the address of MESH, such as https://mesh-sync.spineservices.nhs.uk")
    keystore = _text(root, "KeyStorePath") if url.startswith("https:") else ""
    if url.startswith("https:") and not keystore:
        fault("KeyStorePath", "it is missing, and MESH wants a client certificate")
    clients = list(_clients(root, base, fault))
    if not clients and not faults:
        fault("Client", "there is none; each mailbox has one")
    if len({client.root for client in clients}) < len(clients):
        fault("InterfaceRoot", "two mailboxes have the same; give each its own")
    poll, delay = number("PollPeriod", 30, 0.001, 1440), number("ProcessingDelay", 1, 0, 86400)
    if faults:
        raise ConfigurationError.of(faults)
    signal = _text(root, "SignalPath")
    key, keystore_password = _text(root, "AuthenticationKey"), _text(root, "KeyStorePassword")
    return JavaConfiguration(
        path=path,
        url=url,
        shared_key=SecretStr(key) if key else None,
        keystore=base / keystore if keystore else None,
        keystore_password=SecretStr(keystore_password) if keystore_password else None,
        poll_in_minutes=poll,
        processing_delay_in_seconds=delay,
        work=base / (_text(root, "WorkPath") or "."),
        signal_file=base / signal / "mexclient.sig" if signal else None,
        clients=tuple(clients),
    )


def _root(path: Path) -> Element:
    problem, content = "", b""
    root: Element | None = None
    try:
        content = path.read_bytes()
        if len(content) > _MAX_BYTES:
            problem = f"it is longer than {_MAX_BYTES:,} bytes"
        else:
            root = fromstring(content, forbid_dtd=True)
    except FileNotFoundError:
        problem = "there is no such file"
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    except DefusedXmlException:
        problem = "it has a DTD or entities"
    except (ParseError, ValueError, LookupError):
        problem = f"it is not XML; {_encoding_fault(content) or 'look for a missing or misspelt tag'}"
    if root is None:
        # Out here, as an error of the parser holds text of the file.
        raise ConfigurationError.of([SettingFault(None, str(path), "unreadable", problem)])
    if root.tag != "MESHConfig":
        raise ConfigurationError.of([SettingFault(None, str(path), "invalid", "its root must be MESHConfig")])
    return root


def _encoding_fault(content: bytes) -> str | None:
    """Say where a file is not UTF-8, the encoding of an XML file that names none."""
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8: a £ in a password needs the file to be saved as UTF-8"
    return None


def _clients(root: Element, base: Path, fault: Any) -> Iterator[JavaClient]:
    seen = set()
    for client in root.iter("Client"):
        mailbox_id = _text(client, "ClientIdentity").upper()
        password, folder = _text(client, "ClientAuthentication"), _text(client, "InterfaceRoot")
        for name, value in (
            ("ClientIdentity", mailbox_id),
            ("ClientAuthentication", password),
            ("InterfaceRoot", folder),
        ):
            if not value:
                fault(name, f"it is missing in the <Client> {mailbox_id or 'without ClientIdentity'}")
        if mailbox_id in seen:
            fault("ClientIdentity", f"{mailbox_id} is there twice")
        seen.add(mailbox_id)
        flags = {}
        for name, default in _FLAGS.items():
            said = _text(client, name).upper()
            if said and said not in (*_YES, *_NO):
                fault(name, f"it must be Y or N in the <Client> {mailbox_id}")
            flags[name] = said in _YES if said else default
        if mailbox_id and password and folder:
            yield JavaClient(mailbox_id, SecretStr(password), base / folder, flags)


def _text(parent: Element, name: str) -> str:
    element = parent.find(name)
    return (element.text or "").strip() if element is not None else ""


def keystore_text(path: Path, password: SecretStr | None) -> tuple[str, str]:
    """Check a keystore, and return its path and, as PEM, the authorities in it, which are those to be trusted.

    Raises:
        ConfigurationError: it is a JKS, is not there, or does not open with the password.
    """
    source = f"<KeyStorePath> {path}"
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise ConfigurationError.of([SettingFault(None, source, "unreadable", problem)]) from None
    if start in _JAVA_FORMATS:
        # It asks for the passwords; as arguments, other users of the machine could see them.
        problem = (
            "it is in Java's own format. Convert it once, and name the new file and its password: keytool "
            f'-importkeystore -srckeystore "{path}" -destkeystore "{path.with_suffix(".p12")}" -deststoretype PKCS12'
        )
        raise ConfigurationError.of([SettingFault(None, source, "unreadable", problem)])
    try:
        contents = read(str(path), password.get_secret_value() if password else None)
    except Unreadable as error:
        raise ConfigurationError.of([SettingFault(None, source, "unreadable", str(error))]) from None
    return str(path), trusted_in(contents)


def mailbox_settings(configuration: JavaConfiguration, client: JavaClient) -> dict[str, Any]:
    """Return the settings of a mailbox, as keywords of MeshSettings. Raises ConfigurationError."""
    keywords: dict[str, Any] = {
        "mailbox_id": client.mailbox_id,
        "password": client.password.get_secret_value(),
        "url": configuration.url,
        "max_chunk_size_in_megabytes": _MAX_CHUNK_IN_MEGABYTES,
    }
    if configuration.shared_key is not None:
        keywords["shared_key"] = configuration.shared_key.get_secret_value()
    if configuration.keystore is not None:
        path, authorities = keystore_text(configuration.keystore, configuration.keystore_password)
        keywords["client_signing_certificate"] = str(Path(path).absolute())
        if configuration.keystore_password is not None:
            keywords["client_signing_certificate_password"] = configuration.keystore_password.get_secret_value()
        if authorities:
            keywords["tls_root_certificates"] = authorities
    else:
        keywords["allow_plain_http"] = True
    return keywords


def routes(configuration: JavaConfiguration, client: JavaClient) -> tuple[ReceiveRoute, SendRoute]:
    """Return what is done with the folders of a client."""
    incoming = folders.find(client.root, "IN")
    receive = ReceiveRoute(into=(f"{JAVA}{incoming}",))
    send = SendRoute.model_validate(
        {
            "from": folders.find(client.root, "OUT"),
            "layout": "ctl",
            "archive": folders.find(client.root, "SENT"),
            "failed": folders.find(client.root, "FAILED"),
            "reports": incoming,
            "keep_sent": client.flags["SaveSent"],
            "collect_report": client.flags["CollectReport"],
            "transfer_report": client.flags["TransferReport"],
            "delay_report": client.flags["DelayReport"],
            "poll_report": client.flags["PollReport"],
            "settle_in_seconds": configuration.processing_delay_in_seconds,
        }
    )
    return receive, send


def poll_interval_in_minutes(configuration: JavaConfiguration) -> float:
    """Return its poll period, and no less than MESH allows."""
    host = configuration.url.partition("://")[2].rpartition(":")[0] or configuration.url.partition("://")[2]
    is_here = is_loopback(host.strip("[]").partition("/")[0])
    return configuration.poll_in_minutes if is_here else max(POLL_INTERVAL_IN_MINUTES, configuration.poll_in_minutes)


def load_java(path: Path) -> AgentConfiguration:
    """Read a `meshclient.cfg` as a configuration of the agent, and make the folders that are missing.

    A folder that cannot be made is a trouble of its mailbox, as it may be on a share, and not of the file.

    Raises:
        ConfigurationError: it has faults; each is listed by its element.
    """
    configuration = read_configuration(path)
    minutes = poll_interval_in_minutes(configuration)
    plans = {}
    faults: dict[SettingFault, None] = {}
    for client in configuration.clients:
        try:
            keywords = mailbox_settings(configuration, client)
            settings = MeshSettings(**keywords)
        except ConfigurationError as error:
            # Most of them are the same in every <Client>.
            faults |= dict.fromkeys(_by_element(fault, path) for fault in error.faults)
            continue
        with contextlib.suppress(StorageError):
            folders.make_all(client.root)
        receive, send = routes(configuration, client)
        mailbox = Mailbox(settings=keywords, receive=(receive,), send=(send,))
        plans[client.mailbox_id] = MailboxPlan(client.mailbox_id, mailbox, settings, minutes * 60)
    if faults:
        raise ConfigurationError.of(list(faults))
    options = Options(data=data_folder(configuration))
    defaults = Defaults(poll_interval_in_minutes=minutes)
    return AgentConfiguration(path, options, defaults, plans, signal_file=configuration.signal_file)


_ELEMENTS = {
    "mailbox_id": "ClientIdentity",
    "password": "ClientAuthentication",
    "shared_key": "AuthenticationKey",
    "url": "PrimaryURL",
    "client_signing_certificate": "KeyStorePath",
    "client_signing_certificate_password": "KeyStorePassword",
}
"""Settings, and the elements that give them."""


def _by_element(fault: SettingFault, path: Path) -> SettingFault:
    """Say of a fault of the settings which element of the Java client's file it is about."""
    element = _ELEMENTS.get(fault.setting or "")
    if element is None:
        return fault
    message = fault.message
    if fault.kind == "missing":
        message = f"it is missing; add it, or set MESH_{(fault.setting or '').upper()}"
    return dataclasses.replace(fault, source=f"<{element}> in {path.name}", message=message)


def data_folder(configuration: JavaConfiguration) -> Path:
    """Return the folder of the ledger, which stays the same when the configuration is converted."""
    return configuration.work.absolute() / "nel-mesh-agent"


def load_any(path: Path) -> AgentConfiguration:
    """Read a configuration of either kind: a `.cfg` is the Java client's. Raises ConfigurationError."""
    return load_java(path) if path.suffix.casefold() == ".cfg" else load(path)


def converted(configuration: JavaConfiguration, folder: Path) -> dict[str, str]:
    """Return our own files for a `meshclient.cfg`, by their names: `agent.toml`, and settings of each mailbox.

    The settings hold passwords, so they are to be readable by their owner alone.

    Args:
        configuration: the Java client's.
        folder: where the files will be.
    """
    files = {}
    minutes = poll_interval_in_minutes(configuration)
    agent = f"[agent]\ndata = {json.dumps(str(data_folder(configuration)), ensure_ascii=False)}\n\n"
    agent += f"[defaults]\npoll_interval_in_minutes = {minutes:g}\n"
    for client in configuration.clients:
        name = f"{client.mailbox_id.lower()}.toml"
        keywords = mailbox_settings(configuration, client)
        authorities = keywords.pop("tls_root_certificates", None)
        if authorities:
            files["authorities.pem"] = authorities
            keywords["tls_root_certificates"] = [str(folder.absolute() / "authorities.pem")]
        files[name] = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keywords.items())
        receive, send = routes(configuration, client)
        agent += f"\n[mailboxes.{client.mailbox_id}]\nsettings = {json.dumps(name)}\n"
        agent += (
            f"\n[[mailboxes.{client.mailbox_id}.receive]]\ninto = {json.dumps(receive.into[0], ensure_ascii=False)}\n"
        )
        agent += f"\n[[mailboxes.{client.mailbox_id}.send]]\n"
        for key, value in send.model_dump(by_alias=True, exclude_defaults=True).items():
            shown = str(value) if isinstance(value, Path) else value
            agent += f"{key} = {json.dumps(shown, ensure_ascii=False)}\n"
    files["agent.toml"] = agent
    return files
