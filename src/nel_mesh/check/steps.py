"""The steps of a check, from the settings to the inbox. Each is tried by itself, and names cause and cure."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from nel_mesh._sync.client import MeshClient
from nel_mesh._sync.connection import Connection
from nel_mesh._sync.http import ConnectionPool
from nel_mesh._sync.transport import transport_options
from nel_mesh.check import advice, authorities
from nel_mesh.check.loading import Loaded, LoadSettings, load_partially
from nel_mesh.errors import (
    CertificateError,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    MeshError,
    NotAuthorised,
    NotFound,
    SettingFault,
)
from nel_mesh.http.limits import Deadline, Wait
from nel_mesh.http.proxy import Origin, Proxy, ProxyRefused
from nel_mesh.http.sockets import Socket, resolve
from nel_mesh.io.clock import Clock
from nel_mesh.io.files import is_open_to_others
from nel_mesh.protocol import endpoints
from nel_mesh.protocol.token import CLOCK_TOLERANCE
from nel_mesh.settings import ENVIRONMENTS, MeshSettings
from nel_mesh.tls import keys
from nel_mesh.tls.context import client_ssl_context, proxy_ssl_context
from nel_mesh.tls.identity import Identity
from nel_mesh.tls.keys import Unreadable, WrongPassword, describe, iso, name_of

EXPIRY_WARNING = timedelta(days=60)
"""How long before its end a certificate is warned about: a new one takes weeks to get."""

CLOCK_WARNING = timedelta(minutes=5)
"""The difference between this machine's clock and the server's that is warned about."""

_PING_TIMEOUT_SECONDS = 15.0
"""The longest wait for a response to `_ping`, if the settings have no shorter one; a healthy server takes under one."""

_RESPONSE_LIMIT_BYTES = 65_536
_PAGE_SIZE = 10


class State(enum.StrEnum):
    """The outcome of a step."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step's result. No field holds a secret.

    Attributes:
        name: the step: settings, secrets, certificate, name, tcp, tls, clock, handshake, inbox.
        title: the step's name for people.
        state: its outcome.
        detail: what it found, or why it failed: one line for each fault.
        advice: what to do about a failure or a warning.
        facts: what it found, for programs.
    """

    name: str
    title: str
    state: State
    detail: str
    advice: tuple[str, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


class StepFailed(Exception):
    """A step failed: the cause, and the cures."""

    def __init__(
        self,
        detail: str,
        advice: Iterable[str],
        faults: Iterable[SettingFault] = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = tuple(advice)
        self.facts = facts or {}
        if found := [dataclasses.asdict(fault) for fault in faults]:
            self.facts["faults"] = found


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

_NEEDS = {
    "tcp": ("name",),
    "tls": ("certificate", "tcp"),
    "clock": ("tls",),
    "handshake": ("secrets", "clock"),
    "inbox": ("handshake",),
}
"""The earlier steps without which one cannot be tried; those that need settings are in `_Check.unmet`."""

_SECRETS = ("password", "shared_key")


def diagnose(load: LoadSettings, *, file: Path | None = None, clock: Clock | None = None) -> Iterator[Step]:
    """Try each step in order, but those that depend on one that failed.

    Args:
        load: loads the settings.
        file: the file that they are from, if they are.
        clock: this machine's clock.
    """
    check = _Check(load, file, clock or Clock())
    done: dict[str, State] = {}
    for name, title in _TITLES.items():
        unmet = [need for need in _NEEDS.get(name, ()) if done[need] in (State.FAILED, State.SKIPPED)]
        if need := check.unmet(name) or next(iter(unmet), None):
            detail = f"not tried: it needs '{_TITLES[need]}' first"
            step = Step(name, title, State.SKIPPED, detail, facts={"needs": need})
        else:
            step = _try(name, title, getattr(check, name))
        done[name] = step.state
        yield step


def _try(name: str, title: str, method: Callable[[], _Found]) -> Step:
    try:
        found = method()
    except StepFailed as failure:
        return Step(name, title, State.FAILED, failure.detail, failure.advice, failure.facts)
    except ConfigurationError as error:
        return Step(name, title, State.FAILED, _lines(error.faults), tuple(advice.for_settings(error.faults)))
    except MeshError as error:
        return Step(name, title, State.FAILED, str(error), tuple(advice.for_response(error)))
    state = State.WARNING if found.warnings else State.OK
    return Step(name, title, state, found.detail, found.warnings, found.facts)


def _lines(faults: Iterable[SettingFault]) -> str:
    return "\n".join(map(str, faults))


@dataclasses.dataclass(frozen=True, slots=True)
class _Pong:
    """The server's response to `_ping`."""

    status: int
    date: str | None
    received: datetime
    chain: list[bytes]


class _Check:
    """The steps by name, and what each leaves for the later ones."""

    def __init__(self, load: LoadSettings, file: Path | None, clock: Clock) -> None:
        self._load = load
        self._file = file
        self._clock = clock
        self._loaded = Loaded(None)
        self._secret_faults: list[SettingFault] = []
        self._identity: Identity | None = None
        self._pinged: _Pong | MeshError | None = None

    def unmet(self, name: str) -> str | None:
        """The step whose failure leaves a step without the settings that it needs; None if it can be tried."""
        if name == "settings" or (name == "secrets" and self._secret_faults):
            return None
        replaced = self._loaded.replaced
        if self._loaded.settings is None or (name == "name" and "url" in replaced):
            return "settings"
        # A name that no setting has is a fault, and stands in the way of nothing.
        if name == "handshake" and replaced.difference(_SECRETS):
            return "settings"
        return None

    def settings(self) -> _Found:
        loaded = self._loaded = load_partially(self._load)
        # The next step reports those of secrets, where someone who waits for them will look.
        self._secret_faults = [fault for fault in loaded.faults if fault.setting in _SECRETS]
        others = [fault for fault in loaded.faults if fault not in self._secret_faults]
        if others:
            raise StepFailed(_lines(others), advice.for_settings(others), others)
        settings = self._ready()
        name = next((name for name, url in ENVIRONMENTS.items() if url == settings.url), None)
        where = f"{settings.url} ({name})" if name else settings.url
        source = f" from {self._file}" if self._file else ""
        facts = {"mailbox_id": settings.mailbox_id, "url": settings.url, "environment": name}
        return _Found(f"mailbox {settings.mailbox_id} at {where}{source}", facts=facts)

    def secrets(self) -> _Found:
        if self._secret_faults:
            faults = self._secret_faults
            raise StepFailed(_lines(faults), advice.for_secrets(faults), faults)
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
            self._identity = Identity()
            return _Found("none is used: the address is http")
        try:
            identity = Identity.from_settings(settings, now=now)
            client_ssl_context(identity, settings)
        except CertificateError as error:
            raise StepFailed(_lines(error.faults), advice.for_certificates(error.faults), error.faults) from None
        self._identity = identity
        warnings = [
            f"{describe(authority)} ends soon: get its successor from NHS England, and put both into the settings."
            for authority in identity.expiring(now + EXPIRY_WARNING, now)
            if authority != identity.certificate
        ]
        own, not_after = identity.certificate, identity.not_after
        if own is None or not_after is None:
            warnings.append(
                "MESH requires a client certificate: request one (`nel-mesh csr`), and set client_signing_certificate"
                " and client_signing_key."
            )
            return _Found("no client certificate is set", tuple(warnings))
        left = not_after - now
        if left < EXPIRY_WARNING:
            warnings.insert(
                0,
                f"The certificate ends in {_days(left)}: request a new one now (`nel-mesh csr`); NHS England takes up"
                " to 5 working days.",
            )
        return _Found(
            f"{name_of(own)} and its key match; valid until {iso(not_after)}, {_days(left)} from now",
            tuple(warnings),
            {"subject": own.subject.rfc4514_string(), "not_after": not_after, "days_left": left.days},
        )

    def name(self) -> _Found:
        settings = self._ready()
        server, proxy = Origin.parse(settings.url), _proxy(settings)
        first = proxy.origin if proxy else server
        try:
            found = resolve(first.host, first.port, _limit(settings))
        except OSError as error:
            raise StepFailed(
                f"{first.host} has no address: {error.strerror or error}",
                advice.for_name(settings, of_proxy=proxy is not None),
            ) from None
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        proxied = f" (the proxy; it resolves {server.host})" if proxy else ""
        return _Found(
            f"{first.host} is {', '.join(addresses)}{proxied}", facts={"host": first.host, "addresses": addresses}
        )

    def tcp(self) -> _Found:
        settings = self._ready()
        server, proxy = Origin.parse(settings.url), _proxy(settings)
        if proxy is None:
            self._connect(settings, server).close()
            return _Found(f"{server} answers", facts={"server": str(server), "proxy": None})
        connection = self._connect(settings, proxy.origin, of_proxy=True)
        try:
            if proxy.origin.is_tls:
                context = proxy_ssl_context(Identity.for_proxy(settings, now=self._clock.now()))
                connection.start_tls(context, proxy.origin.tls_name, _limit(settings))
        except OSError as error:
            shown = authorities.shown_in(error)
            raise StepFailed(
                f"TLS to the proxy {proxy.origin} failed: {error}"
                + (f"\n{authorities.in_words(shown)}" if shown else ""),
                ["If a private authority issued the proxy's certificate, give its root as proxy_root_certificates."],
            ) from None
        finally:
            connection.close()
        if self._identity is not None:
            pong = self._ping(settings)
            if isinstance(pong, MeshError) and isinstance(pong.__cause__, ProxyRefused):
                raise StepFailed(str(pong.__cause__), advice.for_proxy(settings))
        facts = {"server": str(server), "proxy": str(proxy.origin)}
        return _Found(f"{server} by the proxy {proxy.origin}", facts=facts)

    def tls(self) -> _Found:
        settings = self._ready()
        pong = self._ping(settings)
        if isinstance(pong, MeshError):
            speaks_tls = settings.url.startswith("http:") and self._speaks_tls(settings)
            cures = advice.for_tls(pong, settings, self._identity, speaks_tls=speaks_tls)
            if settings.url.startswith("http:"):
                raise StepFailed(pong.reason, cures)
            detail, facts = self._authorities(settings, pong.reason, authorities.shown_in(pong))
            raise StepFailed(detail, cures, facts=facts)
        warnings = list(advice.for_ping(pong.status, settings)) if pong.status != 200 else []
        if settings.url.startswith("http:"):
            if pong.status == 400 and self._speaks_tls(settings):
                raise StepFailed(
                    f"the server answers 400 to http at {settings.url}",
                    [f"That port speaks TLS: write the url ({settings.source_of('url')}) with https."],
                )
            warnings.append("The address is http: nothing is encrypted. MESH itself speaks https only.")
            return _Found("none: the address is http", tuple(warnings))
        chain = authorities.read(pong.chain)
        detail, facts = self._authorities(settings, "the server proved its name", chain)
        facts["root"] = chain[-1].subject.rfc4514_string() if chain else None
        return _Found(detail, tuple(warnings), facts)

    def _authorities(
        self, settings: MeshSettings, outcome: str, shown: authorities.Certificates
    ) -> tuple[str, dict[str, Any]]:
        """Return the outcome of TLS with the authorities on both sides: in words, and for programs."""
        identity = self._identity or Identity()
        lines = [outcome, *([authorities.in_words(shown)] if shown else []), authorities.trusted(settings, identity)]
        facts = {"chain": authorities.facts(shown), "trusted": authorities.facts(identity.roots)}
        return "\n".join(lines), facts | {"trusted_by": authorities.trusted_by(settings)}

    def clock(self) -> _Found:
        pong = self._ping(self._ready())
        if isinstance(pong, MeshError):  # pragma: no cover - then this step is skipped
            raise pong
        try:
            date = parsedate_to_datetime(pong.date or "")
        except ValueError:
            return _Found("the server did not say what time it is")
        # A Date without a zone is in UTC.
        ahead = pong.received - (date if date.tzinfo else date.replace(tzinfo=UTC))
        seconds = round(ahead.total_seconds())
        facts = {"seconds_ahead": seconds}
        if abs(seconds) <= 2:
            return _Found("as the server's", facts=facts)
        words = f"{_span(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'} the server's"
        cure = "Set this machine's clock by a time server (NTP), and correct its time zone."
        if abs(ahead) > CLOCK_TOLERANCE:
            raise StepFailed(f"{words}; MESH refuses every request beyond 2 hours", [cure])
        if abs(ahead) > CLOCK_WARNING:
            return _Found(words, (f"{cure} MESH refuses every request beyond 2 hours.",), facts)
        return _Found(words, facts=facts)

    def handshake(self) -> _Found:
        settings = self._ready()
        try:
            with self._client() as client:
                client.handshake()
        except (NotAuthorised, NotFound) as error:
            # If _ping was not MESH's either, the address is to blame, and not the mailbox.
            if isinstance(self._pinged, _Pong) and self._pinged.status != 200:
                cures = advice.for_ping(self._pinged.status, settings)
            else:
                has_certificate = settings.client_signing_certificate is not None
                cures = advice.for_refused_mailbox(settings, has_certificate=has_certificate)
            raise StepFailed(
                f"MESH does not accept mailbox {settings.mailbox_id}: {error.reason} (status {error.status})", cures
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
        if self._loaded.settings is None:  # pragma: no cover - then the step is skipped
            raise RuntimeError("there are no settings")
        return self._loaded.settings

    def _client(self) -> MeshClient:
        # The first failure is the answer; retries would only delay it.
        return MeshClient(self._ready().model_copy(update={"max_attempts": 1}), clock=self._clock)

    def _connect(self, settings: MeshSettings, origin: Origin, *, of_proxy: bool = False) -> Connection:
        try:
            return Connection(Socket.connect(origin.host, origin.port, _limit(settings)))
        except OSError as error:
            party = f"the proxy {origin}" if of_proxy else str(origin)
            problem = f"cannot be reached: {error.strerror or error}"
            if isinstance(error, TimeoutError):
                problem = f"does not answer within {settings.connect_timeout_in_seconds:g} s"
            raise StepFailed(
                f"{party} {problem}", advice.for_tcp(error, settings, str(origin), of_proxy=of_proxy)
            ) from None

    def _ping(self, settings: MeshSettings) -> _Pong | MeshError:
        """Send one request by the client's own way: a refused certificate shows only when something is read."""
        if self._pinged is None:
            try:
                self._pinged = self._send_ping(settings)
            except (ConnectionFailed, ConnectionLost) as error:
                self._pinged = error
        return self._pinged

    def _send_ping(self, settings: MeshSettings) -> _Pong:
        seconds = min(settings.read_timeout_in_seconds, _PING_TIMEOUT_SECONDS)
        options = dataclasses.replace(
            transport_options(settings),
            read_timeout_in_seconds=seconds,
            response_head_timeout_in_seconds=2 * seconds,
            max_connections=1,
        )
        request = endpoints.ping()
        with contextlib.closing(ConnectionPool(options)) as pool:
            response = pool.send(request.method, request.path, {"user-agent": settings.mex_client_version})
            chain = response.verified_chain()
            response.read(_RESPONSE_LIMIT_BYTES)
        return _Pong(response.status, response.headers.get("date"), self._clock.now(), chain)

    def _speaks_tls(self, settings: MeshSettings) -> bool:
        """Whether the server at an http address answers to TLS."""
        origin = Origin.parse(settings.url)
        secure = settings.model_copy(update={"url": f"https://{origin}"})
        try:
            self._send_ping(secure)
        except (ConnectionFailed, ConnectionLost) as error:
            cause = error.__cause__
            alert = isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or "")
            return alert or isinstance(cause, ssl.SSLCertVerificationError)
        except ConfigurationError:
            return False
        return True

    def _files_with_secrets(self, settings: MeshSettings) -> Iterator[Path]:
        secrets = (*_SECRETS, "client_signing_key", "client_signing_certificate_password")
        if self._file and any(settings.source_of(name).endswith(self._file.name) for name in secrets):
            yield self._file
        for given in (settings.client_signing_key, settings.client_signing_certificate):
            path = _file_with_key(given.get_secret_value()) if given else None
            if path:
                yield path


def _proxy(settings: MeshSettings) -> Proxy | None:
    secret = settings.proxy_for_url()
    return Proxy.parse(secret.get_secret_value()) if secret else None


def _limit(settings: MeshSettings) -> Deadline:
    seconds = settings.connect_timeout_in_seconds
    return Deadline(Wait(seconds, f"no answer in {seconds:g} s"))


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
