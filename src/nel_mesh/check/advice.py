"""What to do about each failure that `nel-mesh check` can find."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator

from nel_mesh.errors import ConnectionFailed, ConnectionLost, FaultKind, MeshError, SettingFault
from nel_mesh.settings import MeshSettings

_UNTRUSTED = (
    "Its authority is not among those that are trusted ({source}). Put this environment's RootCA into"
    " tls_root_certificates, and its SubCA into tls_intermediate_certificates. If your network opens TLS on the way"
    " (inspection), ask for an exception for this server."
)
_DATES = (
    "By this machine's clock, a certificate of the server's or the root is out of date: check the clock; if it is"
    " right, look for a newer root ({source}), then tell NHS England."
)
_OTHER_NAME = "The server has a certificate for another name: check the url, and that no one stands in between."
_VERIFICATION = {9: _DATES, 10: _DATES, 62: _OTHER_NAME, 64: _OTHER_NAME}
"""By OpenSSL's numbers (X509_V_ERR_...)."""


_CERTIFICATES: dict[FaultKind, str] = {
    "wrong_password": (
        "Set client_signing_certificate_password (MESH_CLIENT_SIGNING_CERTIFICATE_PASSWORD) to the password that the"
        " key or PKCS#12 file is encrypted with."
    ),
    "key_mismatch": (
        "Give the key with which the certificate's request was made; if it is lost, begin again with `nel-mesh csr`."
    ),
    "expired": "Request a new certificate: `nel-mesh csr`, then do as it says.",
    "not_yet_valid": "Wait until then, or correct this machine's clock.",
}


def for_certificates(faults: Iterable[SettingFault]) -> Iterator[str]:
    """Advice on certificates and keys that cannot be used."""
    kinds = {fault.kind for fault in faults}
    yield from (text for kind, text in _CERTIFICATES.items() if kind in kinds)
    yield "docs/settings.md lists the forms in which certificates and keys can be given."


def for_tls(error: MeshError, settings: MeshSettings) -> Iterator[str]:
    """About the first answer that did not come."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        roots = settings.source_of("tls_root_certificates") if settings.tls_root_certificates else "the system's"
        yield _VERIFICATION.get(cause.verify_code, _UNTRUSTED).format(source=roots)
    elif cause is not None and "ALERT" in (cause.reason or ""):
        yield (
            "Each environment has its own client certificates: compare yours with the url"
            f" ({settings.url}). If a SubCA issued it, put that into tls_intermediate_certificates."
        )
    elif cause is not None:
        yield "Check the url: that port may not speak TLS. If it is right, something between here and there breaks TLS."
    else:
        yield "Check the url; if it is right, try again in a few minutes, then ask your network team."


def for_refused_mailbox(settings: MeshSettings) -> Iterator[str]:
    """About a mailbox that is not accepted."""
    yield (
        f"Compare password ({settings.source_of('password')}) and shared_key ({settings.source_of('shared_key')}) with"
        f" what NHS England sent for this mailbox and this environment ({settings.url}): each environment has its own"
        " of both, and of certificates."
    )
    yield "If they are right, ask NHS England whether the mailbox is active, and whether the certificate is for it."


def for_answer(error: MeshError) -> tuple[str, ...]:
    """About any other failure of a request."""
    if isinstance(error, ConnectionFailed | ConnectionLost):
        return ("The earlier steps got through, so try again; if it stays so, ask your network team.",)
    return ("Try again in a few minutes; if it stays so, give this answer to NHS England's service desk.",)
