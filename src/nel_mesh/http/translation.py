"""Where errors of the network, of TLS, of HTTP and of a proxy become ConnectionFailed and ConnectionLost."""

from __future__ import annotations

import ssl

from nel_mesh.errors import ConnectionFailed, ConnectionLost
from nel_mesh.http.exchange import ProtocolError
from nel_mesh.http.proxy import ProxyRefused

_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
)


CONNECT_ERRORS = (OSError, ProxyRefused)
"""What is raised while connecting; `connect_error` says what it means."""

TRANSFER_ERRORS = (OSError, ProtocolError)
"""What is raised on an open connection; `transfer_error` says what it means."""


def connect_error(error: OSError | ProxyRefused, place: str, *, of_proxy: bool = False) -> ConnectionFailed:
    """Return the error for one that was raised while connecting: no request was sent.

    Args:
        error: what was raised.
        place: the party that was to be reached; the error names it.
        of_proxy: whether that party is the proxy.
    """
    failed = ConnectionFailed(_connect_reason(error, place, of_proxy=of_proxy))
    if isinstance(error, ProxyRefused):
        failed.transient = error.transient
    else:
        # A server that hangs up in the middle has said nothing about our certificate.
        failed.transient = not isinstance(error, ssl.SSLError) or isinstance(error, _HUNG_UP)
    return failed


def transfer_error(
    error: OSError | ProtocolError, *, advice: str = "", fresh: bool = False
) -> ConnectionFailed | ConnectionLost:
    """Return the error for one that was raised on an open connection.

    Args:
        error: what was raised.
        advice: what to look at first if the server hangs up without a word.
        fresh: whether nothing has been answered on the connection yet. Then an alert can mean that the server refuses
            our certificate: ConnectionFailed.
    """
    if fresh and _is_certificate_refused(error):
        failed = ConnectionFailed(_tls_reason(error) or "TLS failed")
        failed.transient = False
        return failed
    reason = _tls_reason(error) or _timeout_reason(error)
    return ConnectionLost(reason or _with_text("the connection broke", error, advice))


def _is_certificate_refused(error: Exception) -> bool:
    """Return whether it is an alert by which a server refuses our certificate; in TLS 1.3 it follows the handshake."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(word in reason for word in _CERTIFICATE_ALERTS)


def _connect_reason(error: Exception, place: str, *, of_proxy: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError) and of_proxy:
        return (
            f"the certificate of {place} is not trusted: {error.verify_message};"
            " if a private authority issued it, give that authority's root as proxy_root_certificates"
        )
    if reason := _tls_reason(error):
        return f"{reason} ({place})" if of_proxy else reason
    if reason := _timeout_reason(error):
        return f"{reason} ({place})"
    return _with_text(f"no connection could be made to {place}", error)


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        word = error.reason.lower().replace("_", " ")
        refused = "; the server refuses our certificate, or wants one" if _is_certificate_refused(error) else ""
        return f"TLS failed: {word}{refused}"
    return ""


def _timeout_reason(error: Exception) -> str:
    """Return our own words for a limit of time; the system's own timeout has a number."""
    return str(error) if isinstance(error, TimeoutError) and not error.errno else ""


def _with_text(reason: str, error: Exception, advice: str = "") -> str:
    text = str(error)
    return "; ".join(filter(None, (f"{reason}: {text}" if text else reason, advice)))
