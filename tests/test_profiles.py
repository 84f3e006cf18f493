"""Profiles: several mailboxes in one settings file, each with what is its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nel_mesh.errors import ConfigurationError
from nel_mesh.settings import ENVIRONMENTS, MeshSettings, profiles

SECRET = "s3cret-Käse"
TOML = """
shared_key = "k"
url = "integration"
password = "everyone's"
tls_root_certificates = ["root.pem"]

[profiles.lab]
mailbox_id = "X26ABC1"
password = "the lab's"

[profiles."GP surgery"]
mailbox_id = "X26ABC2"
url = "production"
max_attempts = 2
"""
PLAIN_JSON = {
    "shared_key": "k",
    "url": "integration",
    "password": "everyone's",
    "tls_root_certificates": ["root.pem"],
    "Profiles": {
        "lab": {"mailbox_id": "X26ABC1", "password": "the lab's"},
        "GP surgery": {"mailbox_id": "X26ABC2", "url": "production", "max_attempts": 2},
    },
}
APPSETTINGS = {
    "Profiles": {"theirs": {}},
    "MeshConfiguration": {
        "SharedKey": "k",
        "Url": "integration",
        "Password": "everyone's",
        "TlsRootCertificates": ["root.pem"],
        "profiles": {
            "lab": {"MailboxId": "X26ABC1", "PASSWORD": "the lab's"},
            "GP surgery": {"mailboxid": "X26ABC2", "Url": "production", "MaxAttempts": 2},
        },
    },
}


@pytest.fixture(params=["mesh.toml", "mesh.json", "appsettings.json"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    texts = {
        "mesh.toml": TOML,
        "mesh.json": json.dumps(PLAIN_JSON),
        "appsettings.json": json.dumps(APPSETTINGS),
    }
    path.write_text(texts[path.name], encoding="utf-8")
    return path


def written(folder: Path, text: object, name: str = "mesh.toml") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def faults(path: Path, profile: str | None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        MeshSettings.from_file(path, profile=profile)
    assert SECRET not in str(caught.value)
    return tuple(map(str, caught.value.faults))


def test_a_profile_wins_over_what_is_for_everyone(path: Path) -> None:
    lab = MeshSettings.from_file(path, profile="lab")
    assert (lab.mailbox_id, lab.password.get_secret_value()) == ("X26ABC1", "the lab's")
    assert (lab.url, lab.tls_root_certificates) == (ENVIRONMENTS["integration"], ("root.pem",))
    surgery = MeshSettings.from_file(path, profile="GP surgery")
    assert (surgery.mailbox_id, surgery.password.get_secret_value()) == ("X26ABC2", "everyone's")
    assert (surgery.url, surgery.max_attempts) == (ENVIRONMENTS["production"], 2)


def test_the_profiles_are_listed_in_their_order(path: Path) -> None:
    assert profiles(path) == ["lab", "GP surgery"]


def test_upper_and_lower_case_are_the_same(path: Path) -> None:
    assert MeshSettings.from_file(path, profile=" LAB").mailbox_id == "X26ABC1"


def test_each_setting_says_where_it_comes_from(path: Path) -> None:
    settings = MeshSettings.from_file(path, profile="lab")
    spelt = {"appsettings.json": "MeshConfiguration:MailboxId"}.get(path.name, "`mailbox_id`")
    assert settings.source_of("mailbox_id") == f"{spelt} in profile 'lab' of {path.name}"
    assert settings.source_of("url").endswith(f" in {path.name}")


def test_the_environment_and_keywords_win_over_a_profile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PASSWORD", "the environment's")
    settings = MeshSettings.from_file(path, profile="lab", mailbox_id="X26ABC9")
    assert (settings.mailbox_id, settings.password.get_secret_value()) == ("X26ABC9", "the environment's")


def test_an_unknown_profile_is_told_with_those_that_there_are(path: Path) -> None:
    (fault,) = faults(path, "lap")
    assert fault == f"settings file {path}: there is no profile 'lap'; there are: lab, GP surgery"


@pytest.mark.parametrize("nobody", [None, "", " "])
def test_without_a_profile_none_is_looked_into(path: Path, nobody: str | None) -> None:
    (fault,) = faults(path, nobody)
    assert fault.startswith("mailbox_id: it is required")
    settings = MeshSettings.from_file(path, profile=nobody, mailbox_id="X")
    assert settings.password.get_secret_value() == "everyone's"


def test_a_file_without_profiles_is_as_ever_and_has_none(tmp_path: Path) -> None:
    text = 'mailbox_id = "X"\npassword = "p"\nshared_key = "k"\nurl = "integration"\n'
    path = written(tmp_path, text)
    assert profiles(path) == []
    assert MeshSettings.from_file(path).mailbox_id == "X"
    assert faults(path, "lab") == (f"settings file {path}: there is no profile 'lab'; it has no profiles",)


def test_an_empty_profile_adds_nothing(tmp_path: Path) -> None:
    for number, nothing in enumerate([{}, None, {"mailbox_id": "", "password": None}]):
        plain = {"mailbox_id": "X", "password": "p", "shared_key": "k", "url": "integration"}
        path = written(tmp_path, {**plain, "profiles": {"lab": nothing}}, f"{number}.json")
        assert profiles(path) == ["lab"]
        assert MeshSettings.from_file(path, profile="lab") == MeshSettings.from_file(path)


def test_faults_name_their_profile(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        shared_key = "k"
        password = "p"
        max_attempts = "many"
        [profiles.lab]
        url = "ftp://{SECRET}"
        mailbox = "{SECRET}"
        max_connections = "{SECRET}"
        """,
    )
    told = faults(path, "lab")
    assert any(fault.startswith("`mailbox` in profile 'lab' of mesh.toml: there is no such setting") for fault in told)
    assert any(fault.startswith("`url` in profile 'lab' of mesh.toml: must be") for fault in told)
    assert any(fault.startswith("`max_connections` in profile 'lab' of mesh.toml: ") for fault in told)
    assert any(fault.startswith("`max_attempts` in mesh.toml: ") for fault in told)
    assert any("mailbox_id: it is required" in fault and "profile 'lab' of mesh.toml" in fault for fault in told)
    assert len(told) == 5


def test_the_faults_of_other_profiles_wait_until_those_are_used(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'mailbox_id = "X"\npassword = "p"\nshared_key = "k"\nurl = "integration"\n'
        "[profiles.lab]\n[profiles.broken]\nmailbox = 1\n",
    )
    assert MeshSettings.from_file(path, profile="lab").mailbox_id == "X"
    assert len(faults(path, "broken")) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'profiles = "{SECRET}"', "`profiles` in mesh.toml: it must hold profiles, each by its name"),
        (f'[profiles]\npassword = "{SECRET}"', "`profiles` in mesh.toml: 'password' holds no settings;"),
        ("[profiles.lab]\n[profiles.Lab]", "`profiles` in mesh.toml: profile 'Lab' is there more than once"),
        ("[[profiles]]\n", "`profiles` in mesh.toml: it must hold profiles"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    for profile in (None, "lab"):
        assert any(fault.startswith(told) for fault in faults(path, profile))
    with pytest.raises(ConfigurationError) as caught:
        profiles(path)
    assert str(caught.value.faults[0]).startswith(told)
    assert SECRET not in str(caught.value)


def test_json_that_has_a_profile_or_a_setting_twice(tmp_path: Path) -> None:
    path = written(tmp_path, '{"profiles": {"lab": {}}, "Profiles": {"LAB": {"url": "integration"}}}', "mesh.json")
    assert any("profile 'LAB' is there more than once" in fault for fault in faults(path, "lab"))
    path = written(tmp_path, '{"profiles": {"lab": {"url": "integration", "url": "production"}}}', "mesh.json")
    assert any(
        fault.startswith("`url` in profile 'lab' of mesh.json: it is given more than once")
        for fault in faults(path, "lab")
    )


def test_one_request_limit_for_a_profile(tmp_path: Path) -> None:
    text = 'mailbox_id = "X"\npassword = "p"\nshared_key = "k"\nurl = "integration"\n[profiles.slow]\n'
    path = written(tmp_path, text + "max_request_timeout_in_seconds = 300\n")
    assert MeshSettings.from_file(path, profile="slow").read_timeout_in_seconds == 300
    assert MeshSettings.from_file(path).read_timeout_in_seconds == 60


def test_a_file_that_cannot_be_read_has_no_profiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        profiles(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        profiles(written(tmp_path, "x"))
