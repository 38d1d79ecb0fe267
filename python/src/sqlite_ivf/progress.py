"""Watching long commands, and ending them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, NamedTuple, Optional, Union

from .loading import _package, load

__all__ = ["Progress", "watch"]


class Progress(NamedTuple):
    """How far a command is, as `ivf_progress` tells it."""

    command: str
    stage: str
    done: int
    total: Optional[int]
    fraction: Optional[float]
    seconds: float


Callback = Callable[[Progress], Optional[bool]]


class Bar:
    """A callback that draws a bar of tqdm."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: pip install 'sqlite-ivf[tqdm]', or give a function") from None
        self.bar = tqdm(leave=False, unit="")
        self.stage = ""

    def __call__(self, progress: Progress) -> None:
        """Draws."""
        stage = f"{progress.command}: {progress.stage}"
        if stage != self.stage:
            self.stage = stage
            self.bar.set_description(stage, refresh=False)
            self.bar.reset(total=progress.total)
        self.bar.total = progress.total
        self.bar.n = progress.done
        self.bar.refresh()

    def close(self) -> None:
        """Takes the bar away."""
        self.bar.close()


def _beside(connection: Any) -> Any:
    """Another connection of the same package, to nothing: the library in it is the same one."""
    for kind in type(connection).__mro__:
        if kind.__module__.split(".")[0] in ("sqlite3", "_sqlite3", "pysqlite3", "apsw"):
            other = kind(":memory:")
            load(other)
            return other
    raise TypeError(f"a connection of sqlite3, pysqlite3 or apsw is expected, got {_package(connection) or type(connection)}")


@contextmanager
def watch(connection: Any, progress: Union[bool, Callback, None] = True, interval: float = 0.1) -> Iterator[None]:
    """Tells how far the long commands are that the connection runs inside the `with`: trainings, also those that a commit
    begins, `optimize`, `preload`, `integrity-check`.

    `progress` is a function that is called every `interval` seconds with a `Progress`, or True for a bar of tqdm. If it gives
    False the command is interrupted, and the database is as it was before it; an exception of it does the same and goes on from
    here, and so does Ctrl-C. It is called by this thread in the middle of a statement: it must not use the connection. It takes
    the connection's progress handler, and leaves none.

    >>> import sqlite_ivf
    >>> db = sqlite_ivf.connect()
    >>> items = sqlite_ivf.Table.create(db, "items", 2)
    >>> _ = items.add([[i, i % 7] for i in range(3000)])
    >>> stages = []
    >>> with watch(db, lambda progress: stages.append(progress.stage), interval=0):
    ...     items.train()
    >>> "k-means" in stages
    True
    """
    if progress is None or progress is False:
        yield
        return
    bar = Bar() if progress is True else None
    callback: Callback = bar if bar is not None else progress  # type: ignore[assignment]
    failure: Optional[BaseException] = None
    due = 0.0
    watcher = _beside(connection)

    def look() -> int:
        nonlocal failure, due
        try:
            now = time.monotonic()
            if now < due:
                return 0
            due = now + interval
            rows = watcher.execute("SELECT command, stage, done, total, fraction, seconds FROM ivf_progress")
            return int(any(callback(Progress(*row)) is False for row in rows.fetchall()))
        except BaseException as error:
            failure = error
            return 1

    connection.set_progress_handler(look, 1000)
    try:
        yield
    except Exception:
        if failure is None:
            raise
    finally:
        connection.set_progress_handler(None, 0)
        watcher.close()
        if bar is not None:
            bar.close()
    if failure is not None:
        raise failure
