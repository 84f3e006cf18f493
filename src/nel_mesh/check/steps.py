"""The steps of `nel-mesh check`: each is tried for itself, and says what it found and what to do about it."""

from __future__ import annotations

import dataclasses
import enum
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from nel_mesh._sync.client import MeshClient
from nel_mesh._sync.http import ConnectionPool
from nel_mesh._sync.transport import transport_options
from nel_mesh.check import advice, network
from nel_mesh.check.network import Unreachable
from nel_mesh.errors import (
    CertificateError,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    MeshError,
    NotAuthorised,
    NotFound,
)
from nel_mesh.io.clock import Clock
from nel_mesh.io.files import is_open_to_others
from nel_mesh.protocol import endpoints
from nel_mesh.protocol.token import CLOCK_TOLERANCE
from nel_mesh.settings import ENVIRONMENTS, MeshSettings
from nel_mesh.tls import keys
from nel_mesh.tls.context import client_ssl_context
from nel_mesh.tls.identity import Identity
from nel_mesh.tls.keys import Unreadable, WrongPassword, describe, iso, name_of

EXPIRY_WARNING = timedelta(days=60)
"""How long before its end a certificate is warned about: a new one takes weeks to get."""

CLOCK_WARNING = timedelta(minutes=5)
"""How far this machine's clock may be from the server's before it is spoken of."""

_ANSWER_LIMIT = 65_536
_PAGE_SIZE = 10


class State(enum.StrEnum):
    """How a step ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step's result. No field holds a secret.

    Attributes:
        name: which step: settings, secrets, certificate, name, tcp, tls, clock, handshake, inbox.
        title: the same for people.
        state: how it ended.
        detail: what was found.
        advice: what to do about it.
        facts: what was found, for scripts.
    """

    name: str
    title: str
    state: State
    detail: str
    advice: tuple[str, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    detail: str
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


_TITLES = {
    "settings": "Settings",
    "secrets": "Secrets",
    "certificate": "Certificate and key",
    "name": "Name resolution",
    "tcp": "TCP connection",
    "tls": "TLS",
    "clock": "Clock",
    "handshake": "Handshake",
    "inbox": "Inbox",
}

_SECRETS = ("password", "shared_key")

_NEEDS = {
    "secrets": ("settings",),
    "certificate": ("settings", "secrets"),
    "name": ("settings", "secrets"),
    "tcp": ("name",),
    "tls": ("certificate", "tcp"),
    "clock": ("tls",),
    "handshake": ("clock",),
    "inbox": ("handshake",),
}
"""Without which other steps one cannot be tried."""


def diagnose(
    load: Callable[[], MeshSettings], *, file: Path | None = None, clock: Clock | None = None
) -> Iterator[Step]:
    """Tries each step in order; what depends on one that failed is skipped.

    Args:
        load: gives the settings, or raises ConfigurationError.
        file: where they come from, if from a file.
        clock: this machine's clock.
    """
    check = _Check(load, file, clock or Clock())
    done: dict[str, State] = {}
    for name, title in _TITLES.items():
        broken = [need for need in _NEEDS.get(name, ()) if done[need] in (State.FAILED, State.SKIPPED)]
        if name in check.failed_early:
            broken = []
        step = _skipped(name, title, broken[0]) if broken else _tried(name, title, getattr(check, name))
        done[name] = step.state
        yield step


def _skipped(name: str, title: str, need: str) -> Step:
    return Step(name, title, State.SKIPPED, f"not tried: it needs '{_TITLES[need]}' first", facts={"needs": need})


def _tried(name: str, title: str, method: Callable[[], _Found]) -> Step:
    try:
        found = method()
    except Unreachable as failure:
        return Step(name, title, State.FAILED, failure.detail, failure.advice)
    except ConfigurationError as error:
        return Step(name, title, State.FAILED, "; ".join(map(str, error.faults)), ("Correct the settings named here.",))
    except MeshError as error:
        return Step(name, title, State.FAILED, str(error), advice.for_answer(error))
    state = State.WARNING if found.warnings else State.OK
    return Step(name, title, state, found.detail, found.warnings, found.facts)


class _Check:
    """The steps, each by its name, and what each leaves for the later ones."""

    def __init__(self, load: Callable[[], MeshSettings], file: Path | None, clock: Clock) -> None:
        self._load = load
        self._file = file
        self._clock = clock
        self._settings: MeshSettings | None = None
        self._missing: list[str] = []
        self._context: ssl.SSLContext | None = None
        self._date: str | None = None
        self._dated: datetime = clock.now()
        self.failed_early: set[str] = set()
        """Steps of which it is known that they fail, although those that they need failed too."""

    def settings(self) -> _Found:
        try:
            settings = self._settings = self._load()
        except ConfigurationError as error:
            faults = error.faults
        else:
            name = next((name for name, url in ENVIRONMENTS.items() if url == settings.url), None)
            where = f"{settings.url} ({name})" if name else settings.url
            source = f" from {self._file}" if self._file else ""
            facts = {"mailbox_id": settings.mailbox_id, "url": settings.url, "environment": name}
            return _Found(f"mailbox {settings.mailbox_id} at {where}{source}", facts=facts)
        # Reported by the next step, where someone who waits for them will look.
        missing = [fault for fault in faults if fault.setting in _SECRETS and fault.kind == "missing"]
        self._missing = [fault.setting for fault in missing if fault.setting]
        if self._missing:
            self.failed_early.add("secrets")
        others = [str(fault) for fault in faults if fault not in missing]
        if others:
            raise Unreachable("; ".join(others), "Correct the settings named here; docs/settings.md has every setting.")
        return _Found("all are valid that are there")

    def secrets(self) -> _Found:
        if self._missing:
            variables = ", ".join(f"MESH_{name.upper()}" for name in self._missing)
            raise Unreachable(
                f"{' and '.join(self._missing)} not given",
                "NHS England sends both with the mailbox. Keep them in the environment"
                f" ({variables}), or in a settings file that only its owner can read.",
            )
        settings = self._ready()
        sources = ", ".join(f"{name} from {settings.source_of(name)}" for name in _SECRETS)
        warnings = (
            f"{path} holds secrets, and others on this machine can read it: chmod 600 {path}"
            for path in self._files_with_secrets(settings)
            if is_open_to_others(path)
        )
        return _Found(sources, tuple(warnings))

    def certificate(self) -> _Found:
        settings, now = self._ready(), self._clock.now()
        if settings.url.startswith("http:"):
            return _Found("none is used: the address is http")
        try:
            identity = Identity.from_settings(settings, now=now)
            self._context = client_ssl_context(identity, settings)
        except CertificateError as error:
            raise Unreachable("; ".join(map(str, error.faults)), *advice.for_certificates(error.faults)) from None
        warnings = [
            f"{describe(authority)} ends soon: get its successor from NHS England, and put both into the settings."
            for authority in identity.expiring(now + EXPIRY_WARNING, now)
            if authority != identity.certificate
        ]
        own, not_after = identity.certificate, identity.not_after
        if own is None or not_after is None:
            warnings.append(
                "MESH wants a client certificate: request one (`nel-mesh csr`), and set"
                " client_signing_certificate and client_signing_key."
            )
            return _Found("no client certificate is set", tuple(warnings))
        left = not_after - now
        if left < EXPIRY_WARNING:
            warnings.insert(
                0,
                f"The certificate ends in {_days(left)}: request a new one now (`nel-mesh csr`); it takes"
                " NHS England up to 5 working days.",
            )
        return _Found(
            f"{name_of(own)} and its key match; valid until {iso(not_after)}, {_days(left)} from now",
            tuple(warnings),
            {"subject": own.subject.rfc4514_string(), "not_after": not_after, "days_left": left.days},
        )

    def name(self) -> _Found:
        settings = self._ready()
        way = network.route(settings)
        addresses = network.resolve(way.first, settings.connect_timeout_in_seconds)
        proxied = f" (the proxy; it resolves {way.server.host})" if way.proxy else ""
        return _Found(
            f"{way.first.host} is {', '.join(addresses)}{proxied}",
            facts={"host": way.first.host, "addresses": addresses},
        )

    def tcp(self) -> _Found:
        settings = self._ready()
        way = network.route(settings)
        network.connect(way, settings.connect_timeout_in_seconds).close()
        facts = {"server": str(way.server), "proxy": str(way.proxy) if way.proxy else None}
        return _Found(f"{way.server} by the proxy {way.proxy}" if way.proxy else f"{way.server} answers", facts=facts)

    def tls(self) -> _Found:
        settings = self._ready()
        status = self._ping(settings)
        warnings = []
        if status != 200:
            warnings.append(f"The server answers {status} to MESH's _ping: check that the url leads to MESH.")
        if self._context is None:
            warnings.append("The address is http: nothing is encrypted. MESH itself speaks https only.")
            return _Found("none: the address is http", tuple(warnings))
        root = self._root(settings)
        source = settings.source_of("tls_root_certificates") if settings.tls_root_certificates else "the system's"
        proved = f"under the root {describe(root)}" if root else "under a trusted root"
        return _Found(
            f"the server proved its name {proved}; trusted by: {source}",
            tuple(warnings),
            {"root": root.subject.rfc4514_string() if root else None, "trusted_by": source},
        )

    def clock(self) -> _Found:
        try:
            date = parsedate_to_datetime(self._date or "")
        except ValueError:
            return _Found("the server did not say what time it is")
        # A Date without a zone is meant in UTC.
        ahead = self._dated - (date if date.tzinfo else date.replace(tzinfo=UTC))
        seconds = round(ahead.total_seconds())
        facts = {"seconds_ahead": seconds}
        if abs(seconds) <= 2:
            return _Found("as the server's", facts=facts)
        words = f"{_span(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} the server's"
        cure = "Set this machine's clock by a time server (NTP), and its time zone right."
        if abs(ahead) > CLOCK_TOLERANCE:
            raise Unreachable(f"{words}; MESH refuses every request beyond 2 hours", cure)
        if abs(ahead) > CLOCK_WARNING:
            return _Found(words, (f"{cure} MESH refuses every request beyond 2 hours.",), facts)
        return _Found(words, facts=facts)

    def handshake(self) -> _Found:
        settings = self._ready()
        try:
            with self._client() as client:
                client.handshake()
        except (NotAuthorised, NotFound) as error:
            raise Unreachable(
                f"MESH does not accept mailbox {settings.mailbox_id}: {error.reason} (status {error.status})",
                *advice.for_refused_mailbox(settings),
            ) from None
        return _Found(f"mailbox {settings.mailbox_id} is accepted")

    def inbox(self) -> _Found:
        with self._client() as client:
            page = client.list_messages(max_results=_PAGE_SIZE)
        count = f"{_PAGE_SIZE} messages or more wait" if len(page) >= _PAGE_SIZE else f"{len(page)} waiting"
        if len(page) == 1:
            count = "1 message waits"
        return _Found(f"reachable; {count}", facts={"messages": len(page), "more": len(page) >= _PAGE_SIZE})

    def _ready(self) -> MeshSettings:
        if self._settings is None:
            raise RuntimeError("there are no settings")  # pragma: no cover - such steps are skipped
        return self._settings

    def _client(self) -> MeshClient:
        # Whoever runs a check wants to see the first failure, and not to wait for the fifth.
        return MeshClient(self._ready().model_copy(update={"max_attempts": 1}), clock=self._clock)

    def _ping(self, settings: MeshSettings) -> int:
        """One answer, by the client's own way: a refused certificate shows only when something is read."""
        pool = ConnectionPool(dataclasses.replace(transport_options(settings), max_connections=1))
        request = endpoints.ping()
        try:
            answer = pool.send(request.method, request.path, {"user-agent": settings.mex_client_version})
            answer.read(_ANSWER_LIMIT)
        except (ConnectionFailed, ConnectionLost) as error:
            raise Unreachable(error.reason, *advice.for_tls(error, settings)) from None
        finally:
            pool.close()
        self._date, self._dated = answer.headers.get("date"), self._clock.now()
        return answer.status

    def _root(self, settings: MeshSettings) -> x509.Certificate | None:
        way = network.route(settings)
        if self._context is None or way.tls_to_proxy:
            return None
        try:
            connection = network.connect(way, settings.connect_timeout_in_seconds)
            return network.verified_root(connection, way, self._context)
        except (OSError, Unreachable):
            # The client itself has got through: to know the root's name is not worth a failure.
            return None

    def _files_with_secrets(self, settings: MeshSettings) -> Iterator[Path]:
        secrets = (*_SECRETS, "client_signing_key", "client_signing_certificate_password")
        if self._file and any(self._file.name in settings.source_of(name) for name in secrets):
            yield self._file
        for given in (settings.client_signing_key, settings.client_signing_certificate):
            path = _file_with_key(given.get_secret_value()) if given else None
            if path:
                yield path


def _file_with_key(given: str) -> Path | None:
    """The file that a certificate's or key's setting names, if there is a key in it."""
    try:
        path = Path(given.strip()).expanduser()
        if not path.is_file():
            return None
        return path if keys.read(str(path)).keys else None
    except WrongPassword:
        return path
    except (OSError, ValueError, RuntimeError, Unreadable):
        # The setting is no path, but the certificate itself; or the next step has more to say of it.
        return None


def _days(span: timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days} days"


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
