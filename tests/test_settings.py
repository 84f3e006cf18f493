"""Settings: every source, the order in which they win, and every fault told at once, without a secret."""

from __future__ import annotations

import copy
import json
import os
import pickle
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

import nel_mesh
from nel_mesh.errors import ConfigurationError
from nel_mesh.protocol.chunks import MEGABYTE
from nel_mesh.settings import ENVIRONMENTS, MeshSettings, SettingsKeywords
from nel_mesh.settings.files import strict_json
from nel_mesh.settings.sources import dotnet_name

SECRET = "s3cret-Käse"  # in no message of ours by chance
REQUIRED: SettingsKeywords = {
    "mailbox_id": "X26ABC1",
    "password": "password-of-mailbox",
    "shared_key": "key-of-environment",
    "url": "https://localhost:8700",
}
IN_FILE = {
    "MailboxId": "QMFOT001",
    "Password": "password-in-file",
    "SharedKey": "key-in-file",
    "Url": "https://msg.intspineservices.nhs.uk/",
}
# Names and shape are those of NEL.MESH's example; the values are made up.
AS_NEL_MESH_HAS_IT: dict[str, Any] = {
    "Logging": {"LogLevel": {"Default": "Information", "Microsoft.AspNetCore": "Warning"}},
    "MeshConfiguration": {
        **IN_FILE,
        "MexClientVersion": "ApiDocs==0.0.1",
        "MexOSName": "Windows",
        "MexOSVersion": "#11",
        "TlsRootCertificates": ["cm9vdA==", ""],
        "TlsIntermediateCertificates": [""],
        "ClientSigningCertificate": "Y2xpZW50",
        "ClientSigningCertificatePassword": "",
        "MaxChunkSizeInMegabytes": "20",
        "MaxRequestTimeoutInSeconds": 100,
    },
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.casefold().startswith("mesh") or variable.casefold().endswith("_proxy"):
            monkeypatch.delenv(variable)


def settings_with(**keywords: Unpack[SettingsKeywords]) -> MeshSettings:
    return MeshSettings(**(REQUIRED | keywords))


def faults(**keywords: object) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        MeshSettings(**keywords)  # type: ignore[arg-type]
    return checked(caught.value)


def faults_of_file(path: Path, **keywords: object) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        MeshSettings.from_file(path, **keywords)  # type: ignore[arg-type]
    return checked(caught.value)


def checked(error: ConfigurationError) -> tuple[str, ...]:
    """The error's faults as sentences, after a search for secrets wherever an error is shown, logged or kept."""
    assert error.__cause__ is None
    assert error.__context__ is None
    for shown in (str(error), repr(error), str(error.faults), "".join(traceback.format_exception(error))):
        assert SECRET not in shown
    assert pickle.loads(pickle.dumps(error)).faults == error.faults  # noqa: S301
    sentences = tuple(map(str, error.faults))
    assert all(sentence in str(error) for sentence in sentences)
    return sentences


def write(folder: Path, document: object, name: str = "appsettings.json") -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


# --- Sources ----------------------------------------------------------------------------------------------------


def test_keywords_suffice_and_the_rest_has_true_defaults() -> None:
    settings = MeshSettings(mailbox_id="x26abc1 ", password="p", shared_key="k", url="https://localhost/")
    assert settings.mailbox_id == "X26ABC1"
    assert settings.url == "https://localhost"
    assert settings.mex_client_version == f"nel-mesh=={nel_mesh.__version__}"
    assert settings.mex_os_name == platform.system()
    assert settings.mex_os_version == platform.release()
    assert settings.mex_os_architecture == platform.machine()
    assert len(settings.tls_root_certificates) == len(settings.tls_intermediate_certificates) == 0
    assert settings.client_signing_certificate is None
    assert (settings.max_chunk_size_in_megabytes, settings.chunk_bytes) == (20, 20 * MEGABYTE)
    assert settings.connect_timeout_in_seconds == 10
    assert settings.read_timeout_in_seconds == settings.write_timeout_in_seconds == 60
    assert settings.proxy_for_url() is None
    assert settings.spool_directory is None


def test_the_keywords_that_the_type_knows_are_the_settings_there_are() -> None:
    assert set(SettingsKeywords.__annotations__) == set(MeshSettings.model_fields)


def test_nel_mesh_s_file_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = MeshSettings.from_file(write(tmp_path, AS_NEL_MESH_HAS_IT))
    assert settings.mailbox_id == "QMFOT001"
    assert settings.password.get_secret_value() == "password-in-file"
    assert settings.shared_key.get_secret_value() == "key-in-file"
    assert settings.url == ENVIRONMENTS["integration"]
    assert (settings.mex_client_version, settings.mex_os_name, settings.mex_os_version) == (
        "ApiDocs==0.0.1",
        "Windows",
        "#11",
    )
    assert settings.tls_root_certificates == ("cm9vdA==",)
    assert settings.tls_intermediate_certificates == ()
    assert settings.client_signing_certificate == SecretStr("Y2xpZW50")
    assert settings.client_signing_certificate_password is None
    assert settings.chunk_bytes == 20 * MEGABYTE
    assert settings.read_timeout_in_seconds == settings.write_timeout_in_seconds == 100
    assert settings.connect_timeout_in_seconds == 10


# The keys of each sample of NEL.MESH, from its oldest version to its newest; the values are made up.
_MEX = {"MexClientVersion": "ApiDocs==0.0.1", "MexOSName": "Windows", "MexOSVersion": "#11"}
_OLD_CERTIFICATES = {
    "RootCertificate": "cm9vdA==",
    "IntermediateCertificates": ["c3Vi"],
    "ClientCertificate": "Y2xpZW50",
}
_CERTIFICATES = {
    "TlsRootCertificates": ["cm9vdA=="],
    "TlsIntermediateCertificates": ["c3Vi"],
    "ClientSigningCertificate": "Y2xpZW50",
    "ClientSigningCertificatePassword": "secret",
}
_OLD_FILE = {"Key" if name == "SharedKey" else name: value for name, value in IN_FILE.items()}
SAMPLES: dict[str, dict[str, Any]] = {
    "without a client password": _OLD_FILE | _MEX | _OLD_CERTIFICATES,
    "integration tests": _OLD_FILE | _MEX | _OLD_CERTIFICATES | {"ClientCertificatePassword": "secret"},
    "acceptance tests": _OLD_FILE
    | _MEX
    | _OLD_CERTIFICATES
    | {"ClientCertificatePassword": "secret", "MaxChunkSizeInMegabytes": "20"},
    "README": _OLD_FILE
    | _MEX
    | _OLD_CERTIFICATES
    | {"ClientCertificatePassword": "secret", "MaxChunkSizeInMegabytes": ""},
    "user interface": _OLD_FILE | _MEX | _OLD_CERTIFICATES | {"ClientCertificatePassword": "", "ChunkSize": 20},
    "witness tests": IN_FILE | _MEX | _CERTIFICATES | {"MaxChunkSizeInMegabytes": "20"},
    "with a timeout": IN_FILE
    | _MEX
    | _CERTIFICATES
    | {"MaxChunkSizeInMegabytes": 20, "MaxRequestTimeoutInSeconds": 100},
    "without a timeout": IN_FILE
    | _MEX
    | _CERTIFICATES
    | {"MaxChunkSizeInMegabytes": 0, "MaxRequestTimeoutInSeconds": 0},
    "negative timeout": IN_FILE | _MEX | _CERTIFICATES | {"MaxRequestTimeoutInSeconds": "-1"},
    "old and new keys, the old ones empty": IN_FILE | _MEX | _CERTIFICATES | {"Key": "", "RootCertificate": None},
}


@pytest.mark.parametrize("section", ["MeshConfiguration", "MESHCONFIGURATION"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_a4_every_sample_of_nel_mesh_is_read(tmp_path: Path, sample: str, section: str) -> None:
    settings = MeshSettings.from_file(write(tmp_path, {section: SAMPLES[sample], "RunAcceptanceTests": False}))
    assert settings.shared_key.get_secret_value() == "key-in-file"
    assert settings.tls_root_certificates == ("cm9vdA==",)
    assert settings.tls_intermediate_certificates == ("c3Vi",)
    assert settings.client_signing_certificate == SecretStr("Y2xpZW50")
    has_password = settings.client_signing_certificate_password == SecretStr("secret")
    assert has_password == (sample not in ("without a client password", "user interface"))
    assert settings.chunk_bytes == 20 * MEGABYTE
    assert settings.read_timeout_in_seconds == (100 if sample == "with a timeout" else 60)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a4_every_sample_of_nel_mesh_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, sample: str) -> None:
    for name, value in SAMPLES[sample].items():
        for suffix, item in enumerate(value) if isinstance(value, list) else [("", value)]:
            suffix = f"__{suffix}" if isinstance(value, list) else ""
            monkeypatch.setenv(f"MeshConfiguration__{name}{suffix}", str(item or ""))
    settings = MeshSettings()
    assert settings.shared_key.get_secret_value() == "key-in-file"
    assert settings.tls_root_certificates == ("cm9vdA==",)
    assert settings.tls_intermediate_certificates == ("c3Vi",)
    assert settings.chunk_bytes == 20 * MEGABYTE
    assert settings.write_timeout_in_seconds == (100 if sample == "with a timeout" else 60)


def test_a4_an_old_key_is_named_as_the_file_has_it(tmp_path: Path) -> None:
    path = write(tmp_path, {"MeshConfiguration": {**_OLD_FILE, "Key": f"{SECRET}\n", "ChunkSize": 101}})
    assert faults_of_file(path) == (
        "MeshConfiguration:Key in appsettings.json:"
        " it holds a line break or another control character; give it without",
        "MeshConfiguration:ChunkSize in appsettings.json: must be less than or equal to 100",
    )
    path = write(tmp_path, {"MeshConfiguration": {**_OLD_FILE, "SharedKey": SECRET}})
    assert faults_of_file(path) == (
        "MeshConfiguration:SharedKey in appsettings.json: it is given more than once; keep one",
    )


def test_a4_zero_is_a_fault_where_it_is_not_nel_mesh_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {**REQUIRED, "max_request_timeout_in_seconds": 0})
    (fault,) = faults_of_file(path)
    assert "must be greater than 0" in fault
    monkeypatch.setenv("MESH_MAX_CHUNK_SIZE_IN_MEGABYTES", "0")
    (fault,) = faults(**REQUIRED)
    assert "must be greater than 0" in fault
    path = write(tmp_path, {"MeshConfiguration": {**IN_FILE, "ConnectTimeoutInSeconds": 0}})
    monkeypatch.delenv("MESH_MAX_CHUNK_SIZE_IN_MEGABYTES")
    (fault,) = faults_of_file(path)
    assert fault.startswith("MeshConfiguration:ConnectTimeoutInSeconds")


def test_the_file_is_read_with_dotnet_s_habits(tmp_path: Path) -> None:
    text = """\ufeff// made by hand
    {
      /* not
         ours */
      "Logging": { "Url": "https://example.com//x", },
      "meshconfiguration": {
        "MAILBOXID": "x26abc1", // mine
        "password": "a // b /* c */ \\" , ] }",
        "SharedKey": 12345678901234567890.50,
        "Url": "https://localhost", "MaxChunkSizeInMegabytes": 5,
        "TlsRootCertificates": [ "a", /* } */ "b", /* ] */
          // ]
        ], "MexOSName": null,
      },
    }
    """
    settings = MeshSettings.from_file(write(tmp_path, text))
    assert settings.mailbox_id == "X26ABC1"
    assert settings.password.get_secret_value() == 'a // b /* c */ " , ] }'
    assert settings.shared_key.get_secret_value() == "12345678901234567890.50"
    assert settings.tls_root_certificates == ("a", "b")
    assert settings.mex_os_name == platform.system()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
BLANKS = st.lists(
    st.sampled_from([" ", "\n", "/**/", '/* , ] } " * / */', '// , ] } " */\n', "\t", "/* // */", "/***/"])
).map("".join)


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@given(JSON, st.data())
def test_comments_and_trailing_commas_anywhere_change_nothing(document: object, data: st.DataObject) -> None:
    def trailing() -> str:
        return data.draw(st.sampled_from(["", ","]))

    def written(value: Any) -> Iterator[str]:
        yield data.draw(BLANKS)
        if isinstance(value, list):
            yield "["
            for number, item in enumerate(value):
                yield from (",", *written(item)) if number else written(item)
            yield (trailing() if value else "") + data.draw(BLANKS) + "]"
        elif isinstance(value, dict):
            yield "{"
            for number, (key, item) in enumerate(value.items()):
                yield ("," if number else "") + data.draw(BLANKS) + json.dumps(key) + data.draw(BLANKS) + ":"
                yield from written(item)
            yield (trailing() if value else "") + data.draw(BLANKS) + "}"
        else:
            yield json.dumps(value, ensure_ascii=data.draw(st.booleans()))
        yield data.draw(BLANKS)

    text = "".join(written(document))
    strict = strict_json(text)
    assert json.loads(strict) == document
    assert [line.rstrip("\r") and len(line) for line in strict.split("\n")] == [
        line.rstrip("\r") and len(line) for line in text.split("\n")
    ]


@pytest.mark.parametrize("name", ["mesh.json", "mesh.toml", "mesh-json", "mesh-toml"])
def test_a_flat_file_has_the_settings_own_names(tmp_path: Path, name: str) -> None:
    toml = """
        mailbox_id = "X26ABC1"  # a comment
        password = 12345
        shared_key = "k"
        url = "production"
        tls_root_certificates = ["a.pem", '''
        -----BEGIN''']
        max_chunk_size_in_megabytes = 7.5
        max_attempts = 2
    """
    as_json = {
        "mailbox_id": "X26ABC1",
        "password": 12345,
        "shared_key": "k",
        "url": "production",
        "tls_root_certificates": ["a.pem", "        -----BEGIN"],
        "max_chunk_size_in_megabytes": 7.5,
        "max_attempts": "2",
    }
    settings = MeshSettings.from_file(write(tmp_path, toml if name.endswith("toml") else as_json, name))
    assert settings == MeshSettings(
        mailbox_id="X26ABC1",
        password="12345",
        shared_key="k",
        url=ENVIRONMENTS["production"],
        tls_root_certificates=("a.pem", "        -----BEGIN"),
        max_chunk_size_in_megabytes=7.5,
        max_attempts=2,
    )
    assert settings.source_of("url") == f"`url` in {name}"


def test_text_may_be_utf_16_as_windows_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "appsettings.json"
    path.write_text(json.dumps(AS_NEL_MESH_HAS_IT), encoding="utf-16")
    assert MeshSettings.from_file(path).mailbox_id == "QMFOT001"


def test_the_environment_suffices_in_both_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_MAILBOX_ID", "X26ABC1")
    monkeypatch.setenv("MeshConfiguration__Password", "p")
    monkeypatch.setenv("MESHCONFIGURATION__SHAREDKEY", "k")
    monkeypatch.setenv("mesh_url", "integration")
    monkeypatch.setenv("MESH_MAX_ATTEMPTS", "3")
    settings = MeshSettings()
    assert settings.mailbox_id == "X26ABC1"
    assert settings.password.get_secret_value() == "p"
    assert settings.shared_key.get_secret_value() == "k"
    assert settings.url == ENVIRONMENTS["integration"]
    assert settings.max_attempts == 3
    assert settings.source_of("shared_key") == "environment variable MESHCONFIGURATION__SHAREDKEY"


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for index, value in ((10, "k"), (2, "c"), (0, "a"), (1, "")):
        monkeypatch.setenv(f"MeshConfiguration__TlsRootCertificates__{index}", value)
    monkeypatch.setenv("MESH_TLS_INTERMEDIATE_CERTIFICATES", ' ["one", "two"]')
    settings = MeshSettings(**REQUIRED)
    assert settings.tls_root_certificates == ("a", "c", "k")
    assert settings.tls_intermediate_certificates == ("one", "two")
    monkeypatch.setenv("MESH_TLS_ROOT_CERTIFICATES", "/etc/mesh/roots.pem")
    assert MeshSettings(**REQUIRED).tls_root_certificates == ("/etc/mesh/roots.pem",)


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"MeshConfiguration": {**IN_FILE, "MexOSName": "file"}})

    def chosen(**keywords: str) -> tuple[str, str]:
        settings = MeshSettings.from_file(path, **keywords)  # type: ignore[arg-type]
        return settings.mex_os_name, settings.source_of("mex_os_name")

    assert MeshSettings(**REQUIRED).source_of("mex_os_name") == "mex_os_name"
    assert chosen() == ("file", "MeshConfiguration:MexOSName in appsettings.json")
    monkeypatch.setenv("MeshConfiguration__MexOSName", "dotnet")
    assert chosen() == ("dotnet", "environment variable MeshConfiguration__MexOSName")
    monkeypatch.setenv("mesh_mex_os_name", "small")
    assert chosen() == ("small", "environment variable mesh_mex_os_name")
    monkeypatch.setenv("MESH_MEX_OS_NAME", "capitals")
    assert chosen() == ("capitals", "environment variable MESH_MEX_OS_NAME")
    assert chosen(mex_os_name="keyword") == ("keyword", "keyword argument `mex_os_name`")


def test_what_is_empty_is_absent_and_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"MeshConfiguration": {**IN_FILE, "MaxChunkSizeInMegabytes": " "}})
    monkeypatch.setenv("MESH_PASSWORD", "")
    settings = MeshSettings.from_file(path, shared_key=None, url="", tls_root_certificates=[])
    assert settings.password.get_secret_value() == "password-in-file"
    assert settings.shared_key.get_secret_value() == "key-in-file"
    assert settings.url == ENVIRONMENTS["integration"]
    assert settings.chunk_bytes == 20 * MEGABYTE
    assert MeshSettings.from_file(path, password=SecretStr("")).password == settings.password


def test_paths_and_secrets_are_taken_as_they_come(tmp_path: Path) -> None:
    settings = MeshSettings(
        mailbox_id="X26ABC1",
        password=SecretStr("p"),
        shared_key="k",
        url="https://localhost",
        tls_root_certificates=Path("root.pem"),
        tls_intermediate_certificates=[Path("a.pem"), Path("b.pem")],
        client_signing_certificate=Path("client.pfx"),
        spool_directory=str(tmp_path),
    )
    assert settings.tls_root_certificates == ("root.pem",)
    assert settings.tls_intermediate_certificates == ("a.pem", "b.pem")
    assert settings.client_signing_certificate == SecretStr("client.pfx")
    assert settings.spool_directory == tmp_path


@pytest.mark.parametrize(
    ("keywords", "read", "write"),
    [
        ({"max_request_timeout_in_seconds": 5}, 5, 5),
        ({"max_request_timeout_in_seconds": 5, "read_timeout_in_seconds": 7}, 7, 5),
        ({"write_timeout_in_seconds": 7}, 60, 7),
    ],
)
def test_the_request_timeout_stands_for_what_is_not_given(
    keywords: SettingsKeywords, read: float, write: float
) -> None:
    settings = settings_with(**keywords)
    assert (settings.read_timeout_in_seconds, settings.write_timeout_in_seconds) == (read, write)


# --- What the values may be -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("Integration", "https://msg.intspineservices.nhs.uk"),
        ("deployment", "https://msg.depspineservices.nhs.uk"),
        ("production", "https://mesh-sync.spineservices.nhs.uk"),
        ("http://localhost:8700/", "http://localhost:8700"),
        ("HTTPS://gateway.nhs.uk/some/path//", "https://gateway.nhs.uk/some/path"),
        (" https://[::1]:8700", "https://[::1]:8700"),
    ],
)
def test_urls(given: str, url: str) -> None:
    assert settings_with(url=given).url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("intgration", "must be an http or https address, or one of integration, deployment, production"),
        ("ftp://localhost", "must be an http or https address"),
        ("https://", "must be an http or https address"),
        ("https://localhost:port", "must be an http or https address"),
        ("https://localhost:99999", "must be an http or https address"),
        ("https://local host", "must be an http or https address"),
        ("https://[::1", "must be an http or https address"),
        ("https://mésh.nhs.uk", "must be an http or https address"),
        (f"https://user:{SECRET}@localhost".replace("ä", "a"), "must not hold a user or password"),
        ("https://localhost?a=b", "must not hold a query"),
        ("https://localhost/#", "must not hold a query or fragment"),
        ("https://localhost/messageexchange/", "must end before /messageexchange"),
    ],
)
def test_urls_that_cannot_be_used(url: str, says: str) -> None:
    (fault,) = faults(**(REQUIRED | {"url": url}))
    assert fault.startswith(f"keyword argument `url`: {says}")


LOOPBACK = [
    "localhost",
    "localhost.",
    "mesh.localhost",
    "127.0.0.1",
    "127.9.8.7:8700",
    "[::1]:8700",
    "[::ffff:127.0.0.1]",
]
ELSEWHERE = [
    "mesh.example",
    "127.0.0.1.example.com",
    "localhost.example",
    "notlocalhost",
    "10.0.0.1",
    "192.0.2.1",
    "[::2]",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a24_plain_http_to_this_machine(host: str) -> None:
    assert settings_with(url=f"http://{host}").url == f"http://{host}"


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a24_plain_http_to_another_machine_needs_a_setting(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://{host}"
    for allow in (None, False):
        (fault,) = faults(**REQUIRED | {"url": url, "allow_plain_http": allow})
        assert fault.startswith("keyword argument `url`: must be https")
        assert "allow_plain_http" in fault
    assert settings_with(url=url, allow_plain_http=True).url == url
    assert settings_with(url=f"https://{host}").url == f"https://{host}"
    section = {**IN_FILE, "Url": url, "AllowPlainHttp": True}
    assert MeshSettings.from_file(write(tmp_path, {"MeshConfiguration": section})).url == url
    monkeypatch.setenv("MESH_ALLOW_PLAIN_HTTP", "true")
    assert settings_with(url=url).url == url
    (fault,) = faults(**REQUIRED, allow_plain_http="perhaps")
    assert fault == "keyword argument `allow_plain_http`: must be true or false"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("mailbox_id", "X26:ABC", "letters, digits"),
        ("mailbox_id", "X" * 101, "at most 100"),
        ("password", f"{SECRET}\n", "holds a line break"),
        ("shared_key", f"{SECRET}\r\n", "holds a line break"),
        ("mex_os_name", "Línux", "printable ASCII"),
        ("mex_client_version", "a\nb", "printable ASCII"),
        ("max_chunk_size_in_megabytes", 0, "must be greater than 0"),
        ("max_chunk_size_in_megabytes", 100.1, "must be less than or equal to 100"),
        ("max_chunk_size_in_megabytes", "20 MB", "must be a number"),
        ("max_chunk_size_in_megabytes", "nan", "must be finite"),
        ("max_chunk_size_in_megabytes", True, "must be a number"),
        ("connect_timeout_in_seconds", 0, "must be greater than 0"),
        ("read_timeout_in_seconds", float("inf"), "must be finite"),
        ("write_timeout_in_seconds", -1, "must be greater than 0"),
        ("max_request_timeout_in_seconds", 0, "must be greater than 0"),
        ("max_attempts", 0, "must be greater than or equal to 1"),
        ("max_attempts", "many", "must be a whole number"),
        ("max_attempts", 1.5, "must be a whole number"),
        ("retry_initial_delay_in_seconds", -1, "must be greater than or equal to 0"),
        ("retry_max_delay_in_seconds", 0.1, "must not be less than retry_initial_delay_in_seconds"),
        ("max_retry_after_in_seconds", "", None),
        ("max_connections", 0, "must be greater than or equal to 1"),
        ("client_signing_key", SECRET, "there is no client_signing_certificate for this key"),
        ("proxy", f"http://user:{SECRET}/@proxy:8080", "must be like http://host:port"),
        ("proxy", "socks5://proxy:1080", "must be an http or https proxy"),
        ("proxy_password", SECRET, "there is no proxy_user for this password"),
        ("spool_directory", "/no/such/folder", "must be an existing folder"),
        ("spool_directory", __file__, "must be an existing folder"),
        ("tls_root_certificates", [{"a": SECRET}], "must be text"),
        ("tls_root_certificates", {"a": SECRET}, "must be a list of texts"),
        ("password", [SECRET], "must be text"),
    ],
)
def test_limits(name: str, value: object, says: str | None) -> None:
    if says is None:
        MeshSettings(**(REQUIRED | {name: value}))  # type: ignore[arg-type]
        return
    (fault,) = faults(**(dict(REQUIRED) | {name: value}))
    assert fault.startswith(f"keyword argument `{name}`")
    assert says in fault


SECRETS = ("password", "shared_key", "client_signing_certificate_password", "proxy_user", "proxy_password")
EDGES = ["{}\n", "{}\r\n", "{} ", " {}", "\t{}", "{}\0"]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", SECRETS)
def test_a16_a_blank_or_line_feed_around_any_secret_is_named(name: str, edge: str) -> None:
    given = dict(REQUIRED) | {"proxy_user": "jo"} | {name: edge.format(SECRET)}
    (fault,) = faults(**given)
    says = "begins or ends with a blank" if edge.strip(" ") == "{}" else "holds a line break"
    assert fault.startswith(f"keyword argument `{name}`: it {says}")


@pytest.mark.parametrize("edge", EDGES[:-1])
def test_a16_blanks_around_what_is_no_secret_do_not_matter(
    edge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "mailbox_id": "X26ABC1",
        "url": "https://localhost:8700",
        "mex_os_name": "Linux",
        "spool_directory": str(tmp_path),
        "max_attempts": "3",
        "connect_timeout_in_seconds": "2.5",
        "proxy": "http://proxy:8080",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"MESH_{name.upper()}", edge.format(value))
    settings = MeshSettings(password="p", shared_key="k")
    for name, value in values.items():
        found = getattr(settings, name)
        assert str(found.get_secret_value() if isinstance(found, SecretStr) else found) == value


def test_a16_a_settings_file_whose_path_ends_with_a_line_feed() -> None:
    (fault,) = faults_of_file(Path("mesh.toml\n"))
    assert "the path begins or ends with a blank or a line feed" in fault


def test_a_delay_longer_than_the_longest_by_default_is_a_fault_too() -> None:
    (fault,) = faults(**REQUIRED, retry_initial_delay_in_seconds=31)
    assert fault == "retry_max_delay_in_seconds: must not be less than retry_initial_delay_in_seconds"


@pytest.mark.parametrize("megabytes", [0.29, 1, 20.1, 99.999999, 100])
def test_chunk_bytes_are_whole_and_within_the_limit(megabytes: float) -> None:
    settings = settings_with(max_chunk_size_in_megabytes=megabytes)
    assert settings.chunk_bytes == round(megabytes * MEGABYTE) <= 100 * MEGABYTE


# --- Faults -----------------------------------------------------------------------------------------------------


def test_every_fault_at_once_each_in_its_source_s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path,
        {"MeshConfiguration": {"MailboxId": "X 26", "SharedKy": SECRET, "MaxChunkSizeInMegabytes": "200"}},
        "appsettings.Development.json",
    )
    monkeypatch.setenv("MESH_PASSWORD", f"{SECRET}\n")
    monkeypatch.setenv("MESH_MAX_REQUEST_TIMEOUT_IN_SECONDS", "soon")
    monkeypatch.setenv("MeshConfiguration__Urll", SECRET)
    assert faults_of_file(path, url="intgration", max_attemps=3) == (
        "MeshConfiguration:SharedKy in appsettings.Development.json: there is no such setting;"
        " did you mean MeshConfiguration:SharedKey?",
        "environment variable MeshConfiguration__Urll: there is no such setting; did you mean MeshConfiguration__Url?",
        "keyword argument `max_attemps`: there is no such setting; did you mean `max_attempts`?",
        "MeshConfiguration:MailboxId in appsettings.Development.json: a mailbox id has letters, digits, - and _"
        " only, and at most 100; give it as it was issued",
        "environment variable MESH_PASSWORD: it holds a line break or another control character; give it without",
        "shared_key: it is required, and not given; set MESH_SHARED_KEY, or put MeshConfiguration:SharedKey"
        " in appsettings.Development.json",
        "keyword argument `url`: must be an http or https address, or one of integration, deployment, production",
        "MeshConfiguration:MaxChunkSizeInMegabytes in appsettings.Development.json: must be less than or equal to 100",
        "environment variable MESH_MAX_REQUEST_TIMEOUT_IN_SECONDS: must be a number",
    )


def test_missing_settings_are_told_with_every_way_to_give_them() -> None:
    assert faults() == tuple(
        f"{name}: it is required, and not given; set MESH_{name.upper()}, or put `{name}` in a settings file"
        for name in ("mailbox_id", "password", "shared_key", "url")
    )


def test_each_fault_is_a_value_with_its_setting_source_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_URL", "ftp://x")
    monkeypatch.setenv("MESH_TLS_ROOT_CERTIFICATES", "[")
    with pytest.raises(ConfigurationError) as caught:
        MeshSettings(mailbox_id="X", pasword="p", shared_key="k")  # type: ignore[call-arg]
    assert [(fault.setting, fault.source, fault.kind) for fault in caught.value.faults] == [
        ("tls_root_certificates", "environment variable MESH_TLS_ROOT_CERTIFICATES", "invalid"),
        (None, "keyword argument `pasword`", "unknown_name"),
        ("password", "password", "missing"),
        ("url", "environment variable MESH_URL", "invalid"),
    ]
    assert all(str(fault) == f"{fault.source}: {fault.message}" for fault in caught.value.faults)
    with pytest.raises(ConfigurationError) as caught:
        MeshSettings.from_file("none.toml")
    (fault,) = caught.value.faults
    assert (fault.setting, fault.kind) == (None, "unreadable")


def test_importing_the_settings_brings_neither_http_nor_certificates() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, nel_mesh.settings; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"ssl", "http.client", "urllib.request", "cryptography", "anyio", "h11", "asyncio", "logging"}
    assert heavy & set(done.stdout.split()) == set()


def test_one_item_of_a_list_is_told_by_its_number() -> None:
    (fault,) = faults(**REQUIRED, tls_root_certificates=["a", True])
    assert fault == "keyword argument `tls_root_certificates`, item 2: must be text"


def test_another_program_s_variables_are_left_alone_but_slips_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for foreign in ("MESH_HOME", "MESH_CLIENT_CERT", "MESH_MAILBOX", "MESH_LOG_LEVEL", "MESHTASTIC_URL", "MESH_"):
        monkeypatch.setenv(foreign, SECRET)
    MeshSettings(**REQUIRED)
    monkeypatch.setenv("MESH_PASSWROD", SECRET)
    monkeypatch.setenv("MESH_MAILBOXID", SECRET)
    assert faults(**REQUIRED) == (
        "environment variable MESH_PASSWROD: there is no such setting; did you mean MESH_PASSWORD?",
        "environment variable MESH_MAILBOXID: there is no such setting; did you mean MESH_MAILBOX_ID?",
    )


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MeshConfiguration__Nonsense", "", "there is no such setting; take it out"),
        ("MeshConfiguration__MailboxId__0", "x", "there is no such setting"),
        ("MeshConfiguration__TlsRootCertificates__first", "x", "there is no such setting"),
        ("MESH_TLS_ROOT_CERTIFICATES", '["a"', "begins like a JSON list and is none"),
    ],
)
def test_variables_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str) -> None:
    monkeypatch.setenv(variable, value)
    (fault,) = faults(**REQUIRED)
    assert fault.startswith(f"environment variable {variable}: ")
    assert says in fault


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.json",
            f'{{\n  "Password": "{SECRET}\n"}}',
            "line 2, column 27: not valid JSON (Invalid control character)",
        ),
        ("a.json", '{ "a": 1,\n /* b */ "c" 2, }', "line 2, column 14: not valid JSON (Expecting"),
        ("a.json", "/* never closed", "line 1, column 1: not valid JSON"),
        ("a.json", "", "line 1, column 1: not valid JSON"),
        ("a.json", f'["{SECRET}"]', "must hold one JSON object"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.toml", f'url = "x"\npassword = {SECRET}', "line 2, column 12: not valid TOML"),
        ("a.toml", f'password = """{SECRET}', "not valid TOML"),
        ("a.toml", f'{SECRET} = "x"', "not valid TOML"),
        ("a", f"password: {SECRET}", "line 1, column 9: not valid TOML"),
        ("a.json", f'{{\n"Password": "{SECRET}"}}'.encode("latin-1"), "line 2 is not UTF-8 text"),
        ("a.json", b"\xff\xfe{\0\x00\xd8", "is not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_read_say_where(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (fault,) = faults_of_file(path)
    assert fault.startswith(f"settings file {path}: ")
    assert says in fault


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (fault,) = faults_of_file(tmp_path / "absent.json")
    assert fault == f"settings file {tmp_path / 'absent.json'}: there is no such file; give the path of a settings file"
    (fault,) = faults_of_file(tmp_path)
    assert "it is a folder" in fault
    (fault,) = faults_of_file(tmp_path / ("a" * 300))
    assert "File name too long" in fault
    (fault,) = faults_of_file(Path("a\0b"))
    assert "it is not a path" in fault


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            '{"MeshConfiguration": {"Url": "production", "url": "integration"}}',
            "MeshConfiguration:Url in appsettings.json: it is given more than once; keep one",
        ),
        (
            '{"MeshConfiguration": {}, "MESHCONFIGURATION": {}}',
            "MeshConfiguration in appsettings.json: it is there 2 times; keep one",
        ),
        (
            '{"MeshConfiguration": "x"}',
            "MeshConfiguration in appsettings.json: it must be an object with the settings in it",
        ),
        (
            '{"mailboxId": "x"}',
            "`mailboxId` in appsettings.json: there is no such setting; did you mean `mailbox_id`?",
        ),
    ],
)
def test_shapes_that_no_file_should_have(tmp_path: Path, document: str, expected: str) -> None:
    assert faults_of_file(write(tmp_path, document), **REQUIRED) == (expected,)


def test_an_empty_section_leaves_everything_to_the_other_sources(tmp_path: Path) -> None:
    assert MeshSettings.from_file(write(tmp_path, {"MeshConfiguration": None}), **REQUIRED) == MeshSettings(**REQUIRED)


def test_a_table_in_toml_is_unknown(tmp_path: Path) -> None:
    (fault,) = faults_of_file(write(tmp_path, "[mesh]\nurl = 'x'", "mesh.toml"), **REQUIRED)
    assert fault.startswith("`mesh` in mesh.toml: there is no such setting")


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(sorted(MeshSettings.model_fields)), st.text(max_size=30))
def test_no_value_is_ever_quoted(name: str, rest: str) -> None:
    try:
        settings = MeshSettings(**(dict(REQUIRED) | {name: SECRET + rest}))  # type: ignore[arg-type]
    except ConfigurationError as error:
        checked(error)
    else:
        assert name in ("mex_client_version", "mex_os_name") or SECRET not in repr(settings) or name == "proxy_user"


# --- The object -------------------------------------------------------------------------------------------------


def test_no_secret_is_shown() -> None:
    secret: SettingsKeywords = {
        "password": SECRET,
        "shared_key": SECRET,
        "client_signing_certificate": SECRET,
        "client_signing_key": SECRET,
        "client_signing_certificate_password": SECRET,
        "tls_root_certificates": SECRET,  # a key pasted into the wrong setting
        "tls_intermediate_certificates": SECRET,
        "proxy": "http://user:s3cret-kase@proxy",
        "proxy_user": "user",
        "proxy_password": SECRET,
    }
    settings = settings_with(**secret)
    proxy = settings.proxy_for_url()
    for shown in (repr(settings), str(settings), f"{settings}", repr(proxy), str(proxy)):
        assert SECRET not in shown
        assert "kase" not in shown
    assert "X26ABC1" in repr(settings)


def test_settings_stay_as_they_are_and_can_be_copied() -> None:
    settings = settings_with(tls_root_certificates=["a"])
    with pytest.raises(ValidationError, match="frozen"):
        settings.url = "https://elsewhere"  # type: ignore[misc]
    for copied in (copy.copy(settings), copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):  # noqa: S301
        assert copied == settings
        assert hash(copied) == hash(settings)
        assert copied.source_of("url") == "keyword argument `url`"
    other = settings.model_copy(update={"mailbox_id": "X26ABC2"})
    assert (other.mailbox_id, other.url) == ("X26ABC2", settings.url)
    assert other != settings
    assert settings != object()


def test_a_larger_model_may_hold_settings() -> None:
    assert MeshSettings.model_validate(dict(REQUIRED)) == MeshSettings(**REQUIRED)


def test_dotnet_names() -> None:
    names = {dotnet_name(name) for name in MeshSettings.model_fields}
    assert set(AS_NEL_MESH_HAS_IT["MeshConfiguration"]) <= names
    assert {"MexOSArchitecture", "ConnectTimeoutInSeconds", "SpoolDirectory"} <= names


# --- Proxy ------------------------------------------------------------------------------------------------------


def proxy(**keywords: str) -> str | None:
    secret = settings_with(**keywords).proxy_for_url()  # type: ignore[arg-type]
    return secret.get_secret_value() if secret else None


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, None),
        ({"proxy": "http://proxy:8080/"}, "http://proxy:8080"),
        ({"proxy": "proxy:8080"}, "http://proxy:8080"),
        ({"proxy": "https://u:p%40@proxy"}, "https://u:p%40@proxy"),
        ({"proxy": "proxy", "proxy_user": "DOMAIN\\me"}, "http://DOMAIN%5Cme@proxy"),
        (
            {"proxy": "http://a:b@proxy:1", "proxy_user": "m@e", "proxy_password": "p:/?# %é"},
            "http://m%40e:p%3A%2F%3F%23%20%25%C3%A9@proxy:1",
        ),
    ],
)
def test_a_proxy_by_setting(keywords: dict[str, str], expected: str | None) -> None:
    assert proxy(**keywords) == expected


def test_a_proxy_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    assert proxy() == "http://all:1"
    monkeypatch.setenv("HTTPS_PROXY", "http://https:2")
    monkeypatch.setenv("HTTP_PROXY", "http://http:3")
    assert proxy() == "http://https:2"
    assert proxy(url="http://localhost") == "http://http:3"
    monkeypatch.setenv("https_proxy", "small:4")
    assert proxy() == "http://small:4"
    assert proxy(proxy_user="me", proxy_password="p w") == "http://me:p%20w@small:4"
    assert proxy(proxy="http://setting:5") == "http://setting:5"
    assert proxy(proxy="None") is None
    assert proxy(proxy="direct") is None
    monkeypatch.setenv("MESH_PROXY", "none")
    assert proxy() is None


@pytest.mark.parametrize("exempt", ["localhost", "localhost:8700", "*", "example.com, localhost"])
def test_no_proxy_exempts_hosts(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert proxy() is None
    assert proxy(proxy="http://setting:5") == "http://setting:5"


def test_a_bad_proxy_in_the_environment_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MeshSettings(**REQUIRED)
    monkeypatch.setenv("ALL_PROXY", f"socks5://user:{SECRET}@proxy".replace("ä", "a"))
    with pytest.raises(ConfigurationError, match="environment variable ALL_PROXY: must be an http") as caught:
        settings.proxy_for_url()
    assert "s3cret" not in str(caught.value)
    checked(caught.value)


def test_a12_a_home_folder_that_there_is_not_is_a_fault_of_the_setting() -> None:
    """A12: containers run as users without a home folder; `~` then raises RuntimeError."""
    with pytest.raises(ConfigurationError, match="spool_directory.*without ~"):
        MeshSettings(
            mailbox_id="X26ABC1",
            password="password",
            shared_key="key",
            url="http://127.0.0.1:1",
            spool_directory="~no-such-user/spool",
        )
    with pytest.raises(ConfigurationError, match="no such home folder here"):
        MeshSettings.from_file("~no-such-user/mesh.toml")
