"""The Java client's control files and configuration, as values."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import ConfigurationError, InvalidArgument, MessageMetadata, Report
from nel_mesh.agent.configuration import load
from nel_mesh.agent.java import control_file
from nel_mesh.agent.java.configuration import converted, load_java, read_configuration
from nel_mesh.agent.java.control_file import ControlFile, parse, received, send_options
from nel_mesh.agent.java.folders import SignalFile, find, make_all, sibling

SUMMER = datetime(2026, 8, 1, 9, 15, tzinfo=UTC)
OUT = b"""<DTSControl>
<Version>1.0</Version>
<AddressType>DTS</AddressType>
<MessageType>Data</MessageType>
<WorkflowId>EXAMPLE</WorkflowId>
<To_DTS>TESTMB2</To_DTS>
<From_DTS>TESTMB1</From_DTS>
<Subject> weekly extract </Subject>
<LocalId>run-0042</LocalId>
<DTSId></DTSId>
<Compress>Y</Compress>
<AllowChunking>Y</AllowChunking>
<Encrypted>N</Encrypted>
</DTSControl>"""

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=30)


@given(st.dictionaries(st.sampled_from(["Subject", "LocalId", "To_DTS", "WorkflowId", "DataChecksum"]), _TEXT))
def test_what_is_written_can_be_read(values: dict[str, str]) -> None:
    assert dict(parse(ControlFile(values).render()).values) == values


def test_a_callers_file_is_read_by_name() -> None:
    options = send_options(parse(OUT), mailbox_id="TESTMB1", length=5)
    assert options == {
        "to": "TESTMB2",
        "workflow_id": "EXAMPLE",
        "subject": "weekly extract",
        "local_id": "run-0042",
        "compress": True,
        "encrypted": False,
    }
    assert "weekly" not in repr(parse(OUT))


@pytest.mark.parametrize(
    "content",
    [
        b'<?xml version="1.0" encoding="UTF-8"?>' + OUT,
        OUT.replace(b"<DTSControl>", b'<DTSControl Version="1" xmlns:x="urn:x" x:y="z">'),
        OUT.replace(b"<Version>1.0</Version>", b"<Version>7</Version><IsCompressed >N</IsCompressed >"),
        OUT.replace(b"DTSControl>", b"DTSControl >"),
        b"\xef\xbb\xbf" + OUT,
    ],
)
def test_what_callers_do_differently_is_borne(content: bytes) -> None:
    assert send_options(parse(content), mailbox_id="TESTMB1", length=5)["to"] == "TESTMB2"


def test_both_spellings_of_the_checksum() -> None:
    for name in ("DataChecksum", "DataCheckSum"):
        assert parse(f"<DTSControl><{name}>ab</{name}></DTSControl>".encode()).get("DataChecksum") == "ab"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ((b"<To_DTS>TESTMB2</To_DTS>", b""), ("SEND", "08")),
        ((b"From_DTS>TESTMB1", b"From_DTS>OTHER"), ("SEND", "07")),
        ((b">Data<", b">Report<"), ("SEND", "11")),
        ((b">DTS<", b">SMTP<"), ("SEND", "10")),
        ((b"<WorkflowId>EXAMPLE</WorkflowId>", b""), ("TRANSFER", "06")),
    ],
)
def test_what_cannot_be_sent_has_the_java_clients_code(change: tuple[bytes, bytes], fault: tuple[str, str]) -> None:
    content = OUT.replace(*change).replace(b"From_DTS>OTHER</From_DTS", b"From_DTS>OTHER</From_DTS")
    with pytest.raises(InvalidArgument) as caught:
        send_options(parse(content), mailbox_id="TESTMB1", length=5)
    assert (caught.value.event, caught.value.code) == fault


def test_a_long_file_needs_chunks_or_compression() -> None:
    plain = parse(OUT.replace(b"<Compress>Y", b"<Compress>N"))
    assert send_options(plain, mailbox_id="TESTMB1", length=80_000_000)
    with pytest.raises(InvalidArgument, match="75 MB"):
        send_options(ControlFile({**plain.values, "AllowChunking": "N"}), mailbox_id="TESTMB1", length=80_000_000)
    with pytest.raises(InvalidArgument, match="empty"):
        send_options(plain, mailbox_id="TESTMB1", length=0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<DTSControl>",
        b"<other/>",
        b"\xff\xfe\x00",
        b'<!DOCTYPE x [<!ENTITY e "Jane Doe">]><DTSControl><Subject>&e;</Subject></DTSControl>',
        b"<DTSControl>" + b" " * 1_000_001 + b"</DTSControl>",
    ],
)
def test_what_is_no_control_file_is_refused_without_its_text(content: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(content)
    assert caught.value.code == "01"
    assert "Jane" not in str(caught.value)


def test_a_received_message_is_written_as_the_java_client_does() -> None:
    metadata = MessageMetadata(
        message_id="20260801091500123456_A1B2C3", sender="TESTMB2", recipient="TESTMB1", workflow_id="EXAMPLE",
        subject="a < b", local_id="run-0042",
    )  # fmt: skip
    text = received(metadata, mailbox_id="TESTMB1", now=SUMMER).render().decode()
    for line in (
        "  <AddressType>ALL</AddressType>",
        "  <MessageType>Data</MessageType>",
        "  <From_ESMTP>testmb2@dts.nhs.uk</From_ESMTP>",
        "  <Subject>a &lt; b</Subject>",
        "  <DTSId>20260801091500123456_A1B2C3</DTSId>",
        "    <DateTime>20260801101500</DateTime>",
        "    <Event>TRANSFER</Event>",
        "    <Status>SUCCESS</Status>",
        "    <StatusCode>00</StatusCode>",
    ):
        assert line in text.splitlines()


def test_a_report_keeps_meshs_code() -> None:
    report = Report(
        message_id="M", linked_message_id="L", status_event="SEND", status_code="EPL-152",
        status_description="Invalid NHS Number", status_success=False, local_id="run-0042",
    )  # fmt: skip
    text = received(report, mailbox_id="TESTMB1", now=SUMMER).render().decode()
    for part in (
        "<MessageType>Report<",
        "<Event>SEND<",
        "<Status>ERROR<",
        "<StatusCode>EPL-152<",
        "<LocalId>run-0042<",
    ):
        assert part in text


def test_a_sent_pair_gains_its_id_and_status() -> None:
    sent = parse(OUT).with_status(control_file.transferred(SUMMER), DTSId="M1", IsCompressed="Y").render().decode()
    assert sent.index("<WorkflowId>") > sent.index("<Encrypted>")
    assert "<DTSId>M1</DTSId>" in sent
    assert "Data Transfer success confirmation." in sent


CONFIG = """<MESHConfig>
  <PrimaryURL>{url}</PrimaryURL>
  <WorkPath>working</WorkPath>
  <SignalPath>sig</SignalPath>
  <KeyStorePath>mesh.keystore</KeyStorePath>
  <KeyStorePassword>pass&amp;word</KeyStorePassword>
  <PollPeriod>1</PollPeriod>
  <Client>
    <ClientIdentity>x26abc1</ClientIdentity>
    <ClientAuthentication>password</ClientAuthentication>
    <InterfaceRoot>{root}</InterfaceRoot>
    <CollectReport>N</CollectReport>
    <TransferReport>Y</TransferReport>
  </Client>
  <Client>
    <ClientIdentity>X26ABC2</ClientIdentity>
    <ClientAuthentication>other</ClientAuthentication>
    <InterfaceRoot>data/X26ABC2</InterfaceRoot>
  </Client>
  <AuthenticationKey>TestKey</AuthenticationKey>
  <SomethingNew>kept out</SomethingNew>
</MESHConfig>"""


def written(tmp_path: Path, text: str = CONFIG, url: str = "http://127.0.0.1:1", root: str = "data/X26ABC1") -> Path:
    path = tmp_path / "meshclient.cfg"
    path.write_text(text.replace("{url}", url).replace("{root}", root), encoding="utf-8")
    return path


def test_a_configuration_of_the_java_client(tmp_path: Path) -> None:
    (tmp_path / "data/X26ABC1/out").mkdir(parents=True)
    configuration = load_java(written(tmp_path))
    plan = configuration.mailboxes["X26ABC1"]
    [send] = plan.options.send
    assert send.folder == tmp_path / "data/X26ABC1/out"
    assert (send.collect_report, send.transfer_report, send.keep_sent) == (False, True, True)
    assert plan.poll_interval_in_seconds == 60
    assert configuration.mailboxes["X26ABC2"].options.receive[0].into == (f"java:{tmp_path}/data/X26ABC2/IN",)
    assert sorted(path.name for path in (tmp_path / "data/X26ABC1").iterdir()) == [
        "FAILED",
        "IN",
        "SENT",
        "TEMP",
        "out",
    ]
    assert configuration.signal_file == tmp_path / "sig/mexclient.sig"
    assert configuration.data == tmp_path / "working/nel-mesh-agent"
    assert "TestKey" not in repr(configuration)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("<PrimaryURL>{url}", "<PrimaryURL>ftp://x"), "PrimaryURL"),
        (("<ClientAuthentication>other<", "<ClientAuthentication><"), "ClientAuthentication"),
        (("X26ABC2</ClientIdentity>", "X26ABC1</ClientIdentity>"), "twice"),
        (("MESHConfig>", "Other>"), "MESHConfig"),
        (("<WorkPath>working</WorkPath>", "<WorkPath>"), "not XML"),
        (("<MESHConfig>", '<!DOCTYPE x [<!ENTITY e "x">]><MESHConfig>'), "DTD"),
    ],
)
def test_a_faulty_configuration_is_named(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        read_configuration(written(tmp_path, CONFIG.replace(*change)))


def test_a_keystore_of_javas_own_format_is_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "mesh.keystore").write_bytes(b"\xfe\xed\xfe\xed" + b"\0" * 100)
    with pytest.raises(ConfigurationError, match="keytool -importkeystore"):
        load_java(written(tmp_path, url="https://127.0.0.1:1"))


def test_every_fault_is_reported_at_once_and_by_its_element(tmp_path: Path) -> None:
    text = CONFIG.replace("<PollPeriod>1<", "<PollPeriod>often<").replace(
        "<CollectReport>N<", "<CollectReport>perhaps<"
    )
    text = text.replace("<WorkPath>", "<ProcessingDelay>-1</ProcessingDelay><WorkPath>")
    text = text.replace("data/X26ABC2<", "{root}<")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(written(tmp_path, text))
    elements = sorted(fault.source.partition(">")[0][1:] for fault in caught.value.faults)
    assert elements == ["CollectReport", "InterfaceRoot", "PollPeriod", "ProcessingDelay"]


def test_what_the_settings_lack_is_named_as_the_java_client_calls_it(tmp_path: Path) -> None:
    text = CONFIG.replace("<AuthenticationKey>TestKey</AuthenticationKey>", "").replace(">password<", ">pass\tword<")
    with pytest.raises(ConfigurationError) as caught:
        load_java(written(tmp_path, text))
    faults = {fault.source: fault.message for fault in caught.value.faults}
    assert sorted(faults) == ["<AuthenticationKey> in meshclient.cfg", "<ClientAuthentication> in meshclient.cfg"]
    assert "MESH_SHARED_KEY" in faults["<AuthenticationKey> in meshclient.cfg"]


@pytest.mark.parametrize(("encoding", "is_readable"), [("utf-8", True), ("cp1252", False), ("utf-16", True)])
def test_a_pound_in_a_password(tmp_path: Path, encoding: str, *, is_readable: bool) -> None:
    path = written(tmp_path, CONFIG.replace(">other<", ">£5<"))
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    if is_readable:
        assert load_java(path).mailboxes["X26ABC2"].settings.password.get_secret_value() == "£5"
        return
    with pytest.raises(ConfigurationError, match="line 17 is not UTF-8"):
        read_configuration(path)


KEYTOOL = shutil.which("keytool")


# A second opinion by Java itself, which nothing else here needs.
@pytest.mark.skipif(KEYTOOL is None, reason="`apt-get install default-jre-headless` brings keytool")
def test_the_conversion_that_is_named_is_right(tmp_path: Path) -> None:
    """The command is run as it is printed; the passwords are typed."""
    store = tmp_path / "mesh.keystore"
    make = ["-genkeypair", "-keystore", str(store), "-storetype", "JKS", "-keyalg", "RSA", "-dname", "CN=invented"]
    run = partial(subprocess.run, capture_output=True, text=True, timeout=60, check=True)
    run([str(KEYTOOL), *make, "-storepass", "invented", "-keypass", "invented"])
    path = written(tmp_path, url="https://127.0.0.1:1")
    with pytest.raises(ConfigurationError) as caught:
        load_java(path)
    [fault] = caught.value.faults
    command = shlex.split(fault.message[fault.message.index("keytool") :])
    assert "invented" not in command
    run([str(KEYTOOL), *command[1:]], input="invented\ninvented\ninvented\n")
    text = (
        path.read_text(encoding="utf-8").replace(">mesh.keystore<", ">mesh.p12<").replace("pass&amp;word", "invented")
    )
    path.write_text(text, encoding="utf-8")
    assert load_java(path).mailboxes["X26ABC1"].settings.client_signing_certificate is not None


def test_a_signal_file_that_was_left_asks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mexclient.sig"
    path.write_text("1")
    signal_file = SignalFile(path)
    assert not signal_file.is_given()
    path.unlink()
    assert not signal_file.is_given()
    path.write_text("1")
    assert signal_file.is_given()
    assert not SignalFile(tmp_path / "none/mexclient.sig").is_given()


def test_what_the_control_file_is_made_from_says_what_the_ledger_knows() -> None:
    options = send_options(parse(OUT), mailbox_id="TESTMB1", length=5)
    control = control_file.of_options(options, mailbox_id="TESTMB1")
    again = send_options(control, mailbox_id="TESTMB1", length=5)
    assert {name: again[name] for name in ("to", "workflow_id", "subject", "local_id")} == {
        name: options[name] for name in ("to", "workflow_id", "subject", "local_id")
    }


def test_it_is_converted_into_ours(tmp_path: Path) -> None:
    files = converted(read_configuration(written(tmp_path)), tmp_path)
    assert sorted(files) == ["agent.toml", "x26abc1.toml", "x26abc2.toml"]
    assert "password" not in files["agent.toml"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    java, ours = load_java(tmp_path / "meshclient.cfg"), load(tmp_path / "agent.toml")
    for mailbox_id, plan in java.mailboxes.items():
        assert ours.mailboxes[mailbox_id].options.send == plan.options.send
        assert ours.mailboxes[mailbox_id].options.receive == plan.options.receive
        assert ours.mailboxes[mailbox_id].settings == plan.settings
    assert ours.data == java.data, "with another ledger, a send whose outcome is unknown could be repeated"


def test_folders_are_found_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Out").mkdir()
    make_all(tmp_path)
    assert find(tmp_path, "OUT") == tmp_path / "Out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FAILED", "IN", "Out", "SENT", "TEMP"]
    (tmp_path / "a.DAT").touch()
    assert sibling(tmp_path / "a.ctl", ".dat") == tmp_path / "a.DAT"
    assert sibling(tmp_path / "b.ctl", ".dat") is None
