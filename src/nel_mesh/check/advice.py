"""The cure for each failure that a check can find, by values: kinds of fault, OpenSSL's numbers, statuses."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from nel_mesh.errors import ConnectionFailed, ConnectionLost, FaultKind, MeshError, SettingFault
from nel_mesh.settings import MeshSettings
from nel_mesh.tls.identity import Identity
from nel_mesh.tls.keys import name_of

_FAULTS: dict[FaultKind, str] = {
    "wrong_password": (
        "Set client_signing_certificate_password (MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD) to the password that the"
        " key or PKCS#12 file is encrypted with."
    ),
    "key_mismatch": (
        "Give the key with which the certificate's request was made; if it is lost, begin again with `nel-mesh csr`."
    ),
    "expired": (
        "Request a new certificate: `nel-mesh csr`, then do as it says. For a root, ask NHS England for the new one."
    ),
    "not_yet_valid": "Wait until then, or correct this machine's clock.",
    "unreadable": "See docs/settings.md for the forms in which certificates and keys can be given.",
}


def for_settings(faults: Iterable[SettingFault]) -> Iterator[str]:
    """Advice on settings that cannot be used; each fault has its own cure already."""
    faults = list(faults)
    has_file = not any(fault.setting is None and fault.kind == "missing" for fault in faults)
    if not has_file:
        yield "Create a settings file with `nel-mesh init`, or name one with --settings FILE."
    if has_file or any(fault.kind != "missing" for fault in faults):
        yield "Correct the settings named here; docs/settings.md has every setting."


def for_secrets(faults: Iterable[SettingFault]) -> Iterator[str]:
    """Advice on a password or shared key that is missing, or cannot be used."""
    if any(fault.kind == "missing" for fault in faults):
        yield (
            "NHS England sends both with the mailbox. Keep them in the environment (MESH_PASSWORD, MESH_SHARED_KEY), or"
            " in a settings file that only its owner can read: `nel-mesh init` creates one."
        )
    if any(fault.kind != "missing" for fault in faults):
        yield "Copy it again from NHS England's message, without anything before or after it."


def for_certificates(faults: Iterable[SettingFault]) -> Iterator[str]:
    """Advice on certificates and keys that cannot be used."""
    kinds = {fault.kind for fault in faults}
    found = [text for kind, text in _FAULTS.items() if kind in kinds]
    yield from found or ["Correct the settings named here; docs/going-live.md says where each certificate comes from."]


def for_name(settings: MeshSettings, *, of_proxy: bool) -> Iterator[str]:
    """Advice on a name without an address."""
    setting = "proxy" if of_proxy else "url"
    yield (
        f"Check the name in `{setting}` ({settings.source_of(setting)}) for a typo, and that this machine can resolve"
        " names (DNS, VPN, HSCN)."
    )
    if not of_proxy:
        yield "If your network reaches the internet through a proxy only, set `proxy` or HTTPS_PROXY."


def for_tcp(error: OSError, settings: MeshSettings, place: str, *, of_proxy: bool) -> Iterator[str]:
    """Advice on a host that cannot be reached."""
    setting = "proxy" if of_proxy else "url"
    if isinstance(error, TimeoutError):
        yield f"A firewall probably drops the connection: ask your network team to allow {place} (outbound TCP)."
    else:
        yield (
            f"Check host and port in `{setting}` ({settings.source_of(setting)}). If they are right, nothing listens"
            f" there, or a firewall refuses: ask your network team to allow {place} (outbound TCP)."
        )
    if not of_proxy:
        yield "If your network reaches the internet through a proxy only, set `proxy` or HTTPS_PROXY."


def for_proxy(settings: MeshSettings) -> Iterator[str]:
    """Advice on a proxy that does not connect this machine to the server."""
    source = settings.source_of("proxy")
    where = "the environment (HTTPS_PROXY, ALL_PROXY)" if source == "proxy" else source
    yield f"The proxy is taken from {where}; 'none' as `proxy`, or an entry in NO_PROXY, connects without it."


_UNTRUSTED = (
    "Its authority is not among those that are trusted ({source}). Put this environment's RootCA into"
    " tls_root_certificates, and its SubCA into tls_intermediate_certificates. If your network decrypts TLS on the way"
    " (inspection), ask for an exception for this server."
)
_DATES = (
    "By this machine's clock, the server's certificate or a root is out of date: check the clock; if it is right, look"
    " for a newer root ({source}), then tell NHS England."
)
_OTHER_NAME = (
    "The server has a certificate for another name: check the url, and that nothing intercepts the connection."
)
_VERIFICATION = {9: _DATES, 10: _DATES, 62: _OTHER_NAME, 64: _OTHER_NAME}
"""By OpenSSL's numbers (X509_V_ERR_...)."""

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
"""OpenSSL's reasons for an answer that is no TLS."""


def for_tls(error: MeshError, settings: MeshSettings, identity: Identity | None, *, speaks_tls: bool) -> Iterator[str]:
    """Advice on the first response that did not come.

    Args:
        error: the failure of the request.
        settings: the settings in force.
        identity: the certificates in them.
        speaks_tls: whether a server at an http address answers to TLS.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    reason = (cause.reason or "") if cause is not None else ""
    if speaks_tls:
        yield f"That port speaks TLS: write the url ({settings.source_of('url')}) with https."
    elif isinstance(cause, ssl.SSLCertVerificationError):
        roots = settings.source_of("tls_root_certificates") if settings.tls_root_certificates else "the system's"
        yield _VERIFICATION.get(cause.verify_code, _UNTRUSTED).format(source=roots)
        if identity is not None and identity.untrusted_roots and cause.verify_code not in _VERIFICATION:
            names = ", ".join(map(name_of, identity.untrusted_roots))
            yield (
                f"{names} is only in tls_intermediate_certificates, so it is not trusted: put it in"
                " tls_root_certificates."
            )
    elif "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        yield "The server does not speak TLS 1.2 or later, as MESH does: check the url."
    elif "ALERT" in reason:
        if identity is not None and identity.certificate is None:
            yield "MESH requires a client certificate: request one with `nel-mesh csr`."
        yield (
            f"Each environment has its own client certificates: compare yours with the url ({settings.url})."
            " If a SubCA issued it, put that into tls_intermediate_certificates."
        )
    elif reason in _NOT_TLS:
        yield f"That port does not speak TLS: check the port in the url ({settings.source_of('url')})."
    elif cause is not None or isinstance(error, ConnectionLost):
        yield "Check host and port of the url. If they are right, something between here and there breaks TLS."
    else:
        yield "Check the url; if it is right, try again in a few minutes, then ask your network team."


def for_ping(status: int, settings: MeshSettings) -> Iterator[str]:
    """Advice on a server that does not answer MESH's `_ping` as MESH does."""
    path = urlsplit(settings.url).path
    if path and status in (404, 405):
        yield (
            f"The url has a path ({path}), under which MESH does not answer: end it after the host, unless a gateway"
            " needs the path."
        )
    elif status in (401, 403):
        yield (
            f"_ping needs no mailbox, so it is not MESH that refuses ({status}) but a gateway before it: ask the team"
            " that runs it, or your network team, to let this machine through."
        )
    elif 300 <= status < 400:
        yield f"The server redirects ({status}), which nel-mesh does not follow: put the final address into the url."
    elif status in (502, 503, 504):
        yield f"A gateway answers {status} in place of MESH: try again in a few minutes."
    elif status == 407:
        yield "The proxy requires a user and password: set proxy_user and proxy_password."
    else:
        yield f"The server answers {status} to MESH's _ping: check that the url leads to MESH."


def for_refused_mailbox(settings: MeshSettings, *, has_certificate: bool) -> Iterator[str]:
    """Advice on a mailbox that is not accepted."""
    named = ", ".join(f"{name} ({settings.source_of(name)})" for name in ("mailbox_id", "password", "shared_key"))
    yield (
        f"Compare {named} with what NHS England sent for this environment ({settings.url}): each environment has its"
        " own mailboxes, passwords and certificates."
    )
    if not has_certificate:
        yield "MESH requires a client certificate: request one with `nel-mesh csr`."
    yield (
        f"If they are right, ask NHS England whether the mailbox {settings.mailbox_id} is active, and whether the"
        " certificate is for it."
    )


def for_response(error: MeshError) -> Iterator[str]:
    """Advice on any other failure of a request."""
    if isinstance(error, ConnectionFailed | ConnectionLost):
        yield "The earlier steps succeeded, so try again; if it stays so, ask your network team."
    else:
        yield "Try again in a few minutes; if it stays so, give this response to NHS England's service desk."
