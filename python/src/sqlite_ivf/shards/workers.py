"""Asks those who run the operations: threads of this process, or the workers of a Dask client."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError as _Cancelled
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

from .files import ElsewhereError, Want, file_of, forget, present
from .operations import run

#: For each shard an operation and its arguments.
Calls = Mapping[str, Tuple[Any, ...]]


class _DiedError(Exception):
    """The worker of a task is gone."""


class Threads:
    """Runs operations on threads of this process."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(64, "shards")

    def ask(
        self, wants: Mapping[str, Want], calls: Calls, done: Optional[Callable[[str], None]] = None
    ) -> Tuple[Dict[str, Any], Dict[str, str]]:
        """Runs an operation in several shards at once: the answers, and why there is none from a shard whose file is nowhere.
        `done` is called with the name of each shard that has answered.

        All have ended when this ends, also where one of them is an error.
        """
        answers: Dict[str, Any] = {}
        lost: Dict[str, str] = {}
        failures: List[Exception] = []

        def take(name: str, answer: Callable[[], Any]) -> None:
            try:
                answers[name] = answer()
                if done is not None:
                    done(name)
            except (_DiedError, ElsewhereError):
                raise
            except Exception as error:
                failures.append(error)

        # Where all is as it was last time, this thread asks everybody and waits: others would cost more than they do.
        sent = self._sent_all(wants, calls)
        left = [name for name in calls if name not in sent]
        for name, answer in sent.items():
            try:
                take(name, answer)
            except (_DiedError, ElsewhereError):
                left.append(name)
        asked = {name: self._pool.submit(self._ask, wants[name], calls[name]) for name in left}
        for name, waiting in asked.items():
            try:
                take(name, waiting.result)
            except ElsewhereError as error:
                lost[name] = str(error)
        if failures:
            raise failures[0]
        return answers, lost

    def make(self, want: Want, operation: str, *args: Any) -> Any:
        """Runs an operation that makes a file."""
        return run(want, operation, *args)

    def chosen(self, name: str) -> Optional[str]:
        """The worker that a shard is with, if there are workers."""
        return None

    def close(self) -> None:
        """Closes the files."""
        self._pool.shutdown()
        forget(self._folder)

    def _sent_all(self, wants: Mapping[str, Want], calls: Calls) -> Dict[str, Callable[[], Any]]:
        """The operations that are on their way, each with what waits for its answer."""
        return {}

    def _ask(self, want: Want, call: Tuple[Any, ...]) -> Any:
        """Runs an operation where the shard is; `ElsewhereError` if that is nowhere."""
        return run(want, *call)


class _Server:
    """What runs operations in a worker, several at once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(32, "shards")

    async def run(self, function: Callable[..., Any], args: Tuple[Any, ...]) -> Tuple[Any, Optional[Exception]]:
        """An answer, or its error. What is raised instead is of the way here."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args), None
        except Exception as error:
            return None, error


class Workers(Threads):
    """Runs operations in the workers of a Dask client, where the files are.

    `wants` gives the files of all shards as they are to be now. `timeout` is how many seconds a search for workers takes,
    `restore_after` how many a search for a file.
    """

    def __init__(
        self, client: Any, folder: str, wants: Callable[[], Mapping[str, Want]], timeout: float, restore_after: float
    ) -> None:
        super().__init__(folder)
        self._client, self._wants, self._timeout, self._restore_after = client, wants, timeout, restore_after
        self._choosing, self._starting = threading.RLock(), threading.Lock()
        self._servers: Dict[str, Any] = {}
        self._sees: Dict[str, Set[str]] = {}
        self._chosen: Dict[str, str] = {}
        self._looked = float("-inf")

    def make(self, want: Want, operation: str, *args: Any) -> Any:
        """Runs an operation that makes a file, on the worker with the fewest shards."""
        deadline = time.monotonic() + self._timeout
        while True:
            with self._choosing:
                self._look()
                address = self._idlest()
            if address is not None:
                with suppress(_DiedError):
                    answer = self._on(address, run, want, operation, *args)
                    with self._choosing:
                        self._sees.setdefault(address, set()).add(want.file)
                        self._chosen[want.name] = address
                    return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"shard {want.name}: no worker could {operation} it for {self._timeout} seconds")
            time.sleep(0.1)

    def chosen(self, name: str) -> Optional[str]:
        """The worker that a shard is with."""
        return self._chosen.get(name)

    def close(self) -> None:
        """Closes the files, also in the workers."""
        super().close()
        if getattr(self._client, "status", "") == "running":
            self._everywhere(self._living(), forget, self._folder)
            self._servers.clear()

    def _sent_all(self, wants: Mapping[str, Want], calls: Calls) -> Dict[str, Callable[[], Any]]:
        """Those of shards that have a worker."""
        sent: Dict[str, Callable[[], Any]] = {}
        for name, call in calls.items():
            with suppress(_DiedError):
                address = self._choose(wants[name], {})
                if address is not None:
                    sent[name] = self._sent(address, run, wants[name], *call)
        return sent

    def _ask(self, want: Want, call: Tuple[Any, ...]) -> Any:
        """Runs an operation where the shard is; `ElsewhereError` if that is nowhere."""
        refused: Dict[str, str] = {}
        began = time.monotonic()
        deaths = 0
        while True:
            address = self._choose(want, refused)
            if address is None:
                waited = time.monotonic() - began
                if not self._sees and waited > self._timeout:
                    raise TimeoutError(f"shard {want.name}: there has been no worker for {self._timeout} seconds")
                if self._sees and waited > self._restore_after:
                    raise ElsewhereError("; ".join(refused.values()) or f"none of {len(self._sees)} workers has {want.file}")
                time.sleep(0.1)
                refused = {}
                self._look()
                continue
            try:
                return self._on(address, run, self._wants()[want.name], *call)
            except ElsewhereError as error:
                refused[address] = str(error)
                with self._choosing:
                    self._sees.get(address, set()).discard(want.file)
            except _DiedError as error:
                deaths += 1
                if deaths > 10:
                    raise RuntimeError(f"shard {want.name}: {deaths} workers died one after the other in {call[0]!r}") from error
                began = time.monotonic()
                self._look()

    # One worker

    def _server(self, address: str) -> Any:
        """The actor of a worker: calls of it go past the scheduler's queues of tasks, at a third of the cost."""
        import distributed  # is there: the client is of it

        with self._starting:
            if address in self._servers:
                return self._servers[address]
            # On no other worker, which may not have the file. What is bound to one that is gone waits for ever.
            future = self._client.submit(_Server, actor=True, workers=[address], allow_other_workers=False, pure=False)
            ended = threading.Event()
            future.add_done_callback(lambda _: ended.set())
            while not ended.wait(0.2):
                if address not in self._living():
                    break
            if future.status == "error" and not isinstance(future.exception(timeout=5), distributed.KilledWorker):
                raise future.exception(timeout=5)  # sqlite_ivf is not there, say
            if future.status != "finished":
                future.release()
                raise _DiedError(f"worker {address} is gone")
            with self._client.as_current():  # an actor takes the client that is current, and not the one of its future
                self._servers[address] = distributed.Actor(_Server, address, future.key)
            return self._servers[address]

    def _sent(self, address: str, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Sends a call to a worker, and gives what waits for its answer."""
        try:
            return partial(self._answer, address, self._server(address).run(function, args))
        except RuntimeError as error:  # of the actor: it is lost
            raise self._gone(address, error) from error

    def _gone(self, address: str, error: BaseException) -> _DiedError:
        with self._starting:
            self._servers.pop(address, None)
        return _DiedError(f"worker {address} is gone: {error}")

    def _answer(self, address: str, future: Any) -> Any:
        """What a worker answers, or raises. One that dies may leave its answer open for ever: hence the looks at who is there."""
        ended = False
        while True:
            try:
                answer, error = future.result(timeout=0.2)
                break
            except (TimeoutError, asyncio.TimeoutError) as late:
                if ended or (not future.done() and address not in self._living()):
                    raise self._gone(address, late) from None
                ended = future.done()  # if it was this moment, the answer is there now
            except (OSError, KeyError, RuntimeError, _Cancelled, asyncio.CancelledError) as error:
                raise self._gone(address, error) from error
        if error is not None:
            raise error
        return answer

    def _on(self, address: str, function: Callable[..., Any], *args: Any) -> Any:
        return self._sent(address, function, *args)()

    # All of them

    def _everywhere(self, addresses: Set[str], function: Callable[..., Any], *args: Any) -> Dict[str, Any]:
        """What each of these workers answers. Not by `Client.run`, which waits half a minute for one that has just died."""
        waiting, answers = {}, {}
        for address in sorted(addresses):
            with suppress(_DiedError):
                waiting[address] = self._sent(address, function, *args)
        for address, answer in waiting.items():
            with suppress(_DiedError):
                answers[address] = answer()
        return answers

    def _living(self) -> Set[str]:
        return set(self._client.scheduler_info()["workers"])

    def _look(self) -> None:
        """Asks who is there and has which files, and spreads the shards among them. Who has a shard keeps it if it can, so that its
        lists stay in memory once.
        """
        with self._choosing:
            if time.monotonic() - self._looked < 0.05:
                return
            living = self._living()
            if living != set(self._sees) or any(name not in self._chosen for name in self._wants()):
                self._sees = self._everywhere(living, present, self._folder)
                self._chosen = {name: address for name, address in self._chosen.items() if address in self._sees}
                for name, address in self._chosen.items():
                    other = self._idlest(file_of(name))
                    if other is not None and self._load(address) - self._load(other) > 1:
                        self._chosen[name] = other
            self._looked = time.monotonic()

    def _load(self, address: str) -> int:
        return sum(chosen == address for chosen in self._chosen.values())

    def _idlest(self, file: Optional[str] = None, refused: Mapping[str, str] = {}) -> Optional[str]:
        """The worker with the fewest shards, of those that have a file."""
        having = [each for each, files in self._sees.items() if (file is None or file in files) and each not in refused]
        return min(having, key=lambda each: (self._load(each), each), default=None)

    def _choose(self, want: Want, refused: Mapping[str, str]) -> Optional[str]:
        """The worker for a shard: the one of last time, or of those that have its file the one with the fewest shards."""
        with self._choosing:
            if time.monotonic() - self._looked > 5:
                self._look()
            address = self._chosen.get(want.name)
            if address is None or address in refused:
                self._chosen.pop(want.name, None)
                address = self._idlest(want.file, refused)
                if address is not None:
                    self._chosen[want.name] = address
            return address
