"""The agent as one process: its configuration, its ledger, its mailboxes, and when each is worked on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from nel_mesh import ConfigurationError, MeshError, SettingFault, StorageError
from nel_mesh.agent import filing, running, systemd
from nel_mesh.agent.alive import call_alive
from nel_mesh.agent.clock_watch import ClockWatch
from nel_mesh.agent.composing import remove_composed_before
from nel_mesh.agent.configuration import AgentConfiguration, load
from nel_mesh.agent.folder_watch import FolderWatch
from nel_mesh.agent.hooks import HookCaller, planner
from nel_mesh.agent.java.folders import SignalFile
from nel_mesh.agent.mailbox import MailboxWork
from nel_mesh.agent.membership import Membership
from nel_mesh.agent.open_ledger import open_ledger
from nel_mesh.agent.open_mailboxes import Identity, OpenMailboxes
from nel_mesh.agent.retention import remove_received
from nel_mesh.agent.runner import Runner, Task, ThreadRunner
from nel_mesh.agent.transfers import Transfers
from nel_mesh.agent.versions import in_use, newest_good
from nel_mesh.io.clock import Clock
from nel_mesh.io.files import make_folder
from nel_mesh.io.locks import FileLock
from nel_mesh.ledger.mailboxes import Fenced

logger = logging.getLogger("nel_mesh.agent")

_LOOK_EVERY_SECONDS = 1.0
_VERSION_EVERY_SECONDS = 2.0
_ALIVE_EVERY_SECONDS = 60.0
_STUCK_AFTER_SECONDS = 60.0
_HOUSEKEEPING_EVERY_SECONDS = 3600.0
_LOCK_LOOK_SECONDS = 0.2
_LEASES_EVERY_SECONDS = 10.0


class Agent:
    """An agent. `run` works until `stop` is called.

    Args:
        path: the configuration file.
        read: how it is read.
        clock: where time comes from.
        make_runner: makes what decides which process does which work: threads of this one, or a fleet's engine.
        on_lost: called with the reason when the work of this process was given to others of its fleet. It should end
            the process at once. Default: it begins nothing more, and `run` raises `Fenced`.

    Raises:
        ConfigurationError: the file has faults.
    """

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[Path], AgentConfiguration] = load,
        clock: Clock | None = None,
        make_runner: Callable[[Agent], Runner] | None = None,
        on_lost: Callable[[str], object] | None = None,
    ) -> None:
        self._read = read
        self.configuration = read(path)
        self.clock = clock or Clock()
        self._stopped = threading.Event()
        self._reload = threading.Event()
        self._guard = threading.Lock()
        self.ledger = open_ledger(self.configuration, self.clock)
        self._hooks = HookCaller(self.ledger, self._present)
        self._clock_watch = ClockWatch(self.clock)
        self.ledger.messages.listeners.append(planner(self.ledger, self._present))
        self._turned_at = self.clock.monotonic()
        signal_file = self.configuration.signal_file
        self._signal_file = SignalFile(signal_file) if signal_file is not None else None
        self.version: int | None = None
        """The version of the configuration, in the ledger, that it works by; None: its own file."""
        self._seen_version: int | None = None
        self._current: OpenMailboxes | None = None
        self._retired: list[OpenMailboxes] = []
        self._transfers = Transfers(self.clock, self.report)
        self._lost: str | None = None
        self._on_lost = on_lost
        self.membership = Membership(
            self.ledger,
            self.clock,
            data=self.configuration.data,
            name=self.configuration.agent.node,
            is_fleet=self.configuration.is_fleet,
            doing=self._doing,
            configuration=lambda: self.version,
            on_lost=self._lose,
        )
        self._runner = make_runner(self) if make_runner is not None else self.thread_runner()

    def thread_runner(self) -> Runner:
        """Return what runs the agent's work in threads of this process."""
        return ThreadRunner(self.configuration.agent.workers, self.clock, self.do, self.report)

    def stop(self) -> None:
        """Begin no more work; `run` returns when what is under way has ended. Not for a signal handler."""
        self._stopped.set()
        self._runner.wake()

    def reload(self) -> None:
        """Read the configuration again soon; if it has faults, the present one stays."""
        self._reload.set()
        self._runner.wake()

    def run(self, *, once: bool = False, on_ready: Callable[[], object] = lambda: None) -> None:
        """Work until it is told to stop.

        Args:
            once: visit each mailbox, empty each outgoing folder, and return.
            on_ready: called when the first work is about to begin.

        Raises:
            StorageError: the ledger cannot be used, or another agent does not let go of it.
            ConfigurationError: this machine can work by no version of the configuration that is in the ledger.
            Fenced: the work of this process was given to others of its fleet.
        """
        with contextlib.ExitStack() as stack:
            # Which folders there are is known once the version is chosen, out of the ledger, if there can be any.
            known = self.configuration.locks[: 1 if self._has_versions else None]
            stack.enter_context(self._alone(known))
            stack.enter_context(self.ledger)
            self._choose_version()
            stack.enter_context(self._alone(self.configuration.locks[len(known) :]))
            stack.enter_context(self.membership.joined(self._stopped.is_set))
            stack.enter_context(self._served())
            self._apply(self.configuration)
            self.ledger.note("agent started", owner=self.membership.owner)
            on_ready()
            systemd.notify("READY=1")
            try:
                if once:
                    self._run_once()
                else:
                    self._run_until_stopped()
            finally:
                systemd.notify("STOPPING=1")
                self._transfers.wait()
                for mailboxes in self._all_mailboxes():
                    mailboxes.close()
                if self._lost is not None:
                    raise Fenced(self._lost)
                self.ledger.note("agent stopped", owner=self.membership.owner)

    @property
    def _has_versions(self) -> bool:
        return self.configuration.path.suffix.casefold() != ".cfg"

    def _choose_version(self) -> None:
        """Work by the newest version of the configuration in the ledger, if there is one."""
        if not self._has_versions:
            return
        self._seen_version = self.ledger.configurations.newest_number()
        if self._seen_version is None:
            if not self.configuration.mailboxes:
                text = "there is no mailbox, and no version of the configuration in the ledger: `agent config push`"
                fault = SettingFault(None, str(self.configuration.path), "missing", text)
                raise ConfigurationError.of([fault])
            return
        found = newest_good(self.configuration.path, self.ledger)
        if found is None:
            return
        self.configuration, version, refused = found
        self.version = version.number
        if refused is not None:
            logger.warning("The newest version of the configuration has faults here: %s", refused)
        logger.info("The configuration is version %d in the ledger", self.version)

    def _look_for_version(self) -> None:
        if self._has_versions:
            newest = self.ledger.configurations.newest_number()
            if newest != self._seen_version:
                self._seen_version = newest
                self._reload.set()

    def _run_until_stopped(self) -> None:
        for seconds, work in (
            (_LOOK_EVERY_SECONDS, self._turn),
            (_VERSION_EVERY_SECONDS, self._look_for_version),
            (_LOOK_EVERY_SECONDS, self._reload_if_asked),
            (_LOOK_EVERY_SECONDS, self._enqueue_visits),
            (_LOOK_EVERY_SECONDS, self._enqueue_sends),
            (_LOOK_EVERY_SECONDS, self._enqueue_hooks),
            (_ALIVE_EVERY_SECONDS, self._enqueue_alive),
            (_HOUSEKEEPING_EVERY_SECONDS, self._enqueue_housekeeping),
            (_LOOK_EVERY_SECONDS, self.membership.look_after_others),
            (_LEASES_EVERY_SECONDS, self._free_own_leases),
        ):
            self._runner.every(seconds, work)
        with self._woken():
            self._runner.run(self._stopped.is_set)

    @contextlib.contextmanager
    def _woken(self) -> Iterator[None]:
        """Look at the outgoing folders at once when something changes there, where the system says so."""
        with FolderWatch(self._folders, self._runner.wake):
            yield

    def _folders(self) -> list[Path]:
        return [route.folder for plan in self.configuration.mailboxes.values() for route in plan.options.send]

    @contextlib.contextmanager
    def _served(self) -> Iterator[None]:
        """Serve what monitors ask for, if the configuration says where."""
        address = self.configuration.agent.health
        if address is None:
            yield
            return
        # A third of the time of a start, for those that serve nothing.
        from nel_mesh.agent import health
        from nel_mesh.agent.metrics import Metrics

        metrics = Metrics(self.ledger, self._present, lambda: self._hooks.failures, self._clock_watch)
        self.ledger.messages.listeners.append(metrics.listen)
        app = health.application(self.ledger, metrics, is_alive=self._is_alive, is_stopping=self._stopped.is_set)
        with health.served(address, app) as url:
            logger.info("Health and metrics at %s", url)
            yield

    def _turn(self) -> None:
        self._turned_at = self.clock.monotonic()
        if self._signal_file is not None and self._signal_file.is_given():
            self.stop()
        if systemd.watchdog_seconds() is not None:
            systemd.notify("WATCHDOG=1")

    def _is_alive(self) -> bool:
        return self._stopped.is_set() or self.clock.monotonic() - self._turned_at < _STUCK_AFTER_SECONDS

    def _present(self) -> AgentConfiguration:
        return self.configuration

    @contextlib.contextmanager
    def _alone(self, paths: Sequence[Path]) -> Iterator[None]:
        """Wait for an agent that is ending; two never work on one ledger's folder, nor on one folder of pairs."""
        make_folder(self.configuration.data, 0o700)
        end = self.clock.monotonic() + self.configuration.agent.stop_within_in_seconds + 5
        held: list[FileLock] = []
        try:
            for path in paths:
                lock = FileLock(path)
                while not self._acquired(lock, path):
                    if self._stopped.is_set() or self.clock.monotonic() >= end:
                        raise StorageError(
                            f"{path.parent}: another agent is working here; stop it, or give this one "
                            "a folder of its own ([agent] data)"
                        )
                    self._stopped.wait(_LOCK_LOOK_SECONDS)
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()

    def _acquired(self, lock: FileLock, path: Path) -> bool:
        try:
            return lock.acquire()
        except StorageError as error:
            if path.parent == self.configuration.data:
                raise
            # One mailbox's folder is not there; the others are worked on.
            logger.warning("%s", error)
            return True

    def _apply(self, configuration: AgentConfiguration) -> None:
        """Work by a configuration from now on. What is under way ends by the one before.

        Connections and destinations are made again, as certificates and passwords may be.
        """
        node = self.membership.node
        identity = Identity(
            self.membership.owner, node.name if node and configuration.is_fleet else None, self.membership.check_heard
        )
        mailboxes = OpenMailboxes(
            configuration, self.ledger, self._transfers, identity, self._stopped.is_set, self._clock_watch
        )
        with self._guard:
            if self._current is not None:
                self._retired.append(self._current)
            self.configuration, self._current = configuration, mailboxes
        self.ledger.mailboxes.configure(configuration.mailboxes)
        running.keep(configuration, self.clock.now())

    def _all_mailboxes(self) -> list[OpenMailboxes]:
        return [*self._retired, *([self._current] if self._current else [])]

    def _reload_if_asked(self) -> None:
        with self._guard:
            ended = [mailboxes for mailboxes in self._retired if not mailboxes.busy]
            self._retired = [mailboxes for mailboxes in self._retired if mailboxes.busy]
        for mailboxes in ended:
            mailboxes.close()
        if not self._reload.is_set():
            return
        self._reload.clear()
        systemd.notify(*systemd.reloading())
        version = self.ledger.configurations.newest() if self._has_versions else None
        number = version.number if version is not None else None
        path = self.configuration.path
        try:
            configuration = self._read(path) if version is None else in_use(path, version)
        except ConfigurationError as error:
            logger.warning("The new configuration has faults, so the present one stays: %s", error)
            faults = [f"{fault.source}: {fault.message}" for fault in error.faults]
            self.ledger.note("configuration refused", faults=faults, version=number, owner=self.membership.owner)
            systemd.notify("READY=1", "STATUS=The new configuration has faults; the one before is in use")
            return
        self._apply(configuration)
        self.version = number
        self.membership.beat_soon()
        count = len(configuration.mailboxes)
        self.ledger.note("configuration loaded", mailboxes=count, version=number, owner=self.membership.owner)
        systemd.notify("READY=1", "STATUS=")
        logger.info("The configuration was loaded again: %d mailboxes", len(configuration.mailboxes))

    def _enqueue_visits(self) -> None:
        if not self.membership.is_drained:
            self._runner.enqueue(Task("visit", mailbox_id) for mailbox_id in self.ledger.mailboxes.due())

    def _enqueue_sends(self) -> None:
        """Look into every outgoing folder; a look that finds nothing is to cost next to nothing."""
        if self.membership.is_drained:
            return
        with self._guard:
            works = dict(self._current.works) if self._current else {}
        node = self.membership.node
        kinds: list[tuple[bool, str | None]] = [(True, None)]
        if self.configuration.is_fleet and node is not None:
            kinds.append((False, node.name))
        for is_shared, name in kinds:
            waiting = self.ledger.outgoing.mailboxes_waiting(name)
            self._runner.enqueue(
                Task("send", mailbox_id) if is_shared else Task("send own", mailbox_id, is_local=True)
                for mailbox_id, work in works.items()
                if mailbox_id in waiting or work.is_occupied(is_shared=is_shared)
            )

    def _enqueue_hooks(self) -> None:
        if not self.membership.is_drained and self.ledger.hook_calls.hooks_due():
            self._runner.enqueue([Task("hooks")])

    def _enqueue_housekeeping(self) -> None:
        self._runner.enqueue([Task("housekeeping", is_local=True)])

    def _enqueue_alive(self) -> None:
        if self.configuration.agent.alive_url is not None:
            self._runner.enqueue([Task("alive")])

    def _free_own_leases(self) -> None:
        """Let go of what this process has begun and works on no more: the ledger was not there when it ended."""
        owner = self.membership.owner
        visited = self.ledger.mailboxes.of_owner(owner)
        begun = self.ledger.messages.of_owner(owner)
        running = set(self._runner.running())
        for mailbox_id, epoch in visited.items():
            if f"visit {mailbox_id}" not in running:
                self.ledger.mailboxes.let_go(mailbox_id, epoch)
        if left := begun - self._transfers.holds():
            self.ledger.messages.let_go(left, owner)

    def _doing(self) -> dict[str, datetime]:
        return {**self._runner.running(), **self._transfers.running()}

    def do(self, task: Task) -> None:
        """Do a task, by the configuration of this moment. Raises what the work raises."""
        match task.kind:
            case "visit":
                self._work(task.subject, partial(MailboxWork.visit, if_due=True))
            case "send" | "send own":
                self._work(task.subject, partial(MailboxWork.send, is_shared=task.kind == "send"))
            case "hooks":
                self._hooks.run(self._stopped.is_set)
            case "alive":
                self._say_alive()
            case _:
                self._keep_house()

    def _say_alive(self) -> None:
        """Call the dead man's switch, if every mailbox that is not paused was visited well of late."""
        now = self.clock.now()
        for mailbox in self.ledger.mailboxes.all():
            plan = self.configuration.mailboxes.get(mailbox.mailbox_id)
            if plan is None or mailbox.paused_at is not None:
                continue
            longest = timedelta(seconds=3 * plan.poll_interval_in_seconds)
            if mailbox.last_success_at is None or now - mailbox.last_success_at > longest:
                return
        call_alive(self.configuration.agent.alive_url or "")

    def _work(self, mailbox_id: str, do: Callable[[MailboxWork], object]) -> None:
        """Work on a mailbox by the configuration of this moment."""
        with self._guard:
            mailboxes = self._current
            work = mailboxes.works.get(mailbox_id) if mailboxes else None
            if mailboxes is None or work is None:
                return
            mailboxes.busy += 1
        try:
            do(work)
        finally:
            with self._guard:
                mailboxes.busy -= 1

    def _run_once(self) -> None:
        plans = self.configuration.mailboxes
        settling = max((route.settle_in_seconds for plan in plans.values() for route in plan.options.send), default=0)
        if settling > 0:
            # A file is taken at the second look, once it has not changed in between.
            for mailbox_id in plans:
                self._send_once(mailbox_id)
            self._stopped.wait(settling)
        for mailbox_id in plans:
            for do in (self._send_once, lambda mailbox_id: self._work(mailbox_id, MailboxWork.visit)):
                if not self._stopped.is_set():
                    do(mailbox_id)

    def _send_once(self, mailbox_id: str) -> None:
        for is_shared in (True, False) if self.configuration.is_fleet else (True,):
            self._work(mailbox_id, partial(MailboxWork.send, is_shared=is_shared))

    def _keep_house(self) -> None:
        now = self.clock.now()
        days = self.configuration.defaults.keep_events_for_days
        self.ledger.forget_before(now - timedelta(days=days))
        remove_received(self.configuration, self.ledger)
        remove_composed_before(self.configuration, time.time() - days * 86400)
        for plan in self.configuration.mailboxes.values():
            for route in plan.options.send:
                if route.archive_for_days is not None:
                    oldest = time.time() - route.archive_for_days * 86400
                    filing.remove_older(route.archive_folder, oldest)

    def _lose(self, reason: str) -> None:
        self._lost = reason
        if self._on_lost is not None:
            self._on_lost(reason)
        logger.error("%s", reason)
        self.stop()

    def report(self, key: str, error: Exception) -> None:
        """Log an error that a task has raised."""
        if isinstance(error, MeshError):
            logger.error("%s: %s", key, error)
        else:
            logger.error("%s: this is a bug in nel-mesh; please report it", key, exc_info=error)
