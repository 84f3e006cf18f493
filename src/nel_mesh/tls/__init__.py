"""Certificates and keys: read in every form, chosen once, and turned into one `ssl.SSLContext`."""

from __future__ import annotations

from nel_mesh.tls.csr import CertificateRequest, common_name, make_request
from nel_mesh.tls.identity import Identity, trusted_in
from nel_mesh.tls.keys import Contents, Unreadable, WrongPassword, read

__all__ = [
    "CertificateRequest",
    "Contents",
    "Identity",
    "Unreadable",
    "WrongPassword",
    "common_name",
    "make_request",
    "read",
    "trusted_in",
]
