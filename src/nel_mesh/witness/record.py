"""The record of the scenarios: run one, keep what came of it, and begin again where a run ended."""

from __future__ import annotations

import dataclasses
import json
import platform
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nel_mesh import InvalidArgument, MeshError, MeshSettings, StorageError, __version__
from nel_mesh.io.files import make_folder, write_file
from nel_mesh.settings import ENVIRONMENTS
from nel_mesh.witness.report import html_of
from nel_mesh.witness.scenarios import SCENARIOS
from nel_mesh.witness.trial import Parties, Trial, Unexpected, Verdict, Waiting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """What came of one scenario.

    Attributes:
        number, title, expected: which it was; see SCENARIOS.
        verdict: a Verdict.
        began_at, ended_at: in UTC.
        notes: what was found, in sentences.
        reason: why it failed, or what it waits for; empty if it passed.
        requests: each request, without what is private.
        remembered: what the next run of it needs.
    """

    number: int
    title: str
    expected: str
    verdict: Verdict
    began_at: str
    ended_at: str
    notes: list[str]
    reason: str
    requests: list[dict[str, Any]]
    remembered: dict[str, Any]


class WitnessRecord:
    """Scenarios that were run, in the folder of their report.

    `witness.json` is written after each scenario, so that a run that was cut off goes on with the next one;
    `witness.html` is the same, to be read or printed. Neither holds a password, a key, a header or content.

    Args:
        folder: the folder; it is created.

    Raises:
        StorageError: the folder or an earlier record cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder, 0o755)
        self.results: dict[int, ScenarioResult] = {}
        self._server = self._mailboxes = ""
        if self.json_path.exists():
            self._load()

    @property
    def json_path(self) -> Path:
        """The record, for programs."""
        return self._folder / "witness.json"

    @property
    def html_path(self) -> Path:
        """The report, for people."""
        return self._folder / "witness.html"

    def run(
        self, parties: Parties, numbers: Iterable[int] = (), *, on_result: Callable[[ScenarioResult], object]
    ) -> None:
        """Run scenarios, and write the record and the report after each.

        Args:
            parties: who sends to whom. Only messages that a scenario sent are acknowledged.
            numbers: which scenarios, though they were passed before; if empty, those that have not been passed.
            on_result: called with each result.

        Raises:
            InvalidArgument: a number is unknown, either mailbox is on the production environment, or the record is of
                other mailboxes.
        """
        settings = parties.sender()
        if _is_production(settings) or _is_production(parties.recipient):
            raise InvalidArgument(
                "the scenarios send test messages, and the settings are for production; name those of the integration "
                "environment"
            )
        chosen = list(numbers)
        unknown = [str(number) for number in chosen if number not in SCENARIOS]
        if unknown:
            raise InvalidArgument(f"unknown scenario {unknown[0]}; known are {', '.join(map(str, SCENARIOS))}")
        mailboxes = f"{settings.mailbox_id} to {parties.recipient.mailbox_id}"
        if self.results and (self._server, self._mailboxes) != (settings.url, mailboxes) and parties.advance is None:
            raise InvalidArgument(
                f"{self.json_path} is of {self._mailboxes} at {self._server}; name another folder with --report"
            )
        self._server, self._mailboxes = settings.url, mailboxes
        for number in chosen or SCENARIOS:
            before = self.results.get(number)
            if not chosen and before is not None and before.verdict is Verdict.PASSED:
                continue
            result = _run(number, parties, before.remembered if before else {})
            self.results[number] = result
            self._save()
            on_result(result)

    def _save(self) -> None:
        record = {
            "nel_mesh": __version__,
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "system": f"{platform.system()} {platform.release()}",
            "server": self._server,
            "mailboxes": self._mailboxes,
            "written_at": _now(),
            "scenarios": [dataclasses.asdict(self.results[number]) for number in sorted(self.results)],
        }
        write_file(self.json_path, json.dumps(record, indent=2).encode())
        write_file(self.html_path, html_of(record).encode())

    def _load(self) -> None:
        try:
            record = json.loads(self.json_path.read_bytes())
            results = [ScenarioResult(**{**one, "verdict": Verdict(one["verdict"])}) for one in record["scenarios"]]
            self._server, self._mailboxes = record["server"], record["mailboxes"]
        except OSError as error:
            raise StorageError(f"{self.json_path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise StorageError(
                f"{self.json_path}: not a record of the witness scenarios; name another folder with --report"
            ) from None
        self.results = {one.number: one for one in results}


def _run(number: int, parties: Parties, remembered: dict[str, Any]) -> ScenarioResult:
    scenario = SCENARIOS[number]
    trial = Trial(parties, remembered)
    began, verdict, reason = _now(), Verdict.PASSED, ""
    try:
        scenario.run(trial)
    except Waiting as waiting:
        verdict, reason = Verdict.WAITING, str(waiting)
    except Unexpected as unexpected:
        verdict, reason = Verdict.FAILED, str(unexpected)
    except MeshError as error:
        verdict, reason = Verdict.FAILED, f"{type(error).__name__}: {error}"
    return ScenarioResult(
        number=number,
        title=scenario.title,
        expected=scenario.expected,
        verdict=verdict,
        began_at=began,
        ended_at=_now(),
        notes=trial.notes,
        reason=reason,
        requests=[dataclasses.asdict(request) for request in trial.requests],
        remembered=trial.remembered,
    )


def _is_production(settings: MeshSettings) -> bool:
    """Whether the settings are for production, in whatever way its address is written."""
    live = urlsplit(ENVIRONMENTS["production"]).hostname
    return (urlsplit(settings.url).hostname or "").rstrip(".") == live


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
