"""The Java client's configuration for mailboxes of the sandbox: `meshclient.cfg`, and a keystore."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from nel_mesh.sandbox import Sandbox


def write_configuration(folder: Path, sandbox: Sandbox, given: Path, mailbox_ids: Iterable[str]) -> None:
    """Write both; `given` is the folder that the sandbox wrote its settings and certificates to."""
    key = load_pem_private_key((given / "client.key").read_bytes(), None)
    [certificate, *chain] = x509.load_pem_x509_certificates((given / "client.pem").read_bytes())
    roots = x509.load_pem_x509_certificates((given / "root.pem").read_bytes())
    store = pkcs12.serialize_key_and_certificates(
        b"client_cert",
        key,  # type: ignore[arg-type] # one of those that TLS takes
        certificate,
        [*chain, *roots],
        BestAvailableEncryption(b"keystore"),
    )
    (folder / "mesh.keystore").write_bytes(store)
    clients, shared_key = "", ""
    for mailbox_id in mailbox_ids:
        settings = sandbox.settings(mailbox_id)
        shared_key = settings.shared_key.get_secret_value()
        clients += f"<Client><ClientIdentity>{mailbox_id}</ClientIdentity>"
        clients += f"<ClientAuthentication>{settings.password.get_secret_value()}</ClientAuthentication>"
        clients += f"<InterfaceRoot>{mailbox_id}</InterfaceRoot><TransferReport>Y</TransferReport></Client>"
    (folder / "meshclient.cfg").write_text(
        f"<MESHConfig><PrimaryURL>{sandbox.url}</PrimaryURL><SignalPath>sig</SignalPath>"
        f"<KeyStorePath>mesh.keystore</KeyStorePath><KeyStorePassword>keystore</KeyStorePassword>"
        f"<PollPeriod>0.005</PollPeriod><ProcessingDelay>0</ProcessingDelay>"
        f"<AuthenticationKey>{shared_key}</AuthenticationKey>{clients}</MESHConfig>"
    )
