"""A page to look at searches of a table, on the loopback address: `sqlite-ivf demo`.

The project's `docs/demo.md` shows it. Without a file it builds a database of 4,400 lines of text with their embeddings, which come
with the package.
"""

from __future__ import annotations

import importlib
import signal
import sys
import tempfile
import threading
import webbrowser
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from .._store import connected, fetched
from ..table import Table
from . import data
from .search import Demo
from .server import Server

__all__ = ["Demo", "Server", "opened", "serve"]

ABOUT = "package descriptions of Debian 12"
EXAMPLES = ("gnuchess", "marble", "keepassxc", "rosegarden", "gpredict", "grisbi", "klavaro", "gnome-weather")


def _function(name: str) -> Callable[[str], Any]:
    """The function that `module:function` names, of a module of the working directory or an installed one."""
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ValueError(f"--embed: module:function is expected, got {name!r}")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
    finally:
        sys.path.remove("")
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"--embed: {name} is no function")
    return found  # type: ignore[no-any-return]


@contextmanager
def opened(
    database: Optional[str] = None,
    table: Optional[str] = None,
    *,
    save: Optional[str] = None,
    texts: Optional[str] = None,
    label: Optional[str] = None,
    embed: Optional[str] = None,
) -> Iterator[Demo]:
    """The searches of a table, read only; without a database of the bundled texts, in a file that is deleted or that `save` names.

    >>> with opened() as demo:
    ...     [answer["text"] for answer in demo.search({"row": 1414, "k": 2, "recall": 1})["answers"]]
    ['gnome-chess: simple chess game', "games-chess: Debian's chess games"]
    """
    function = _function(embed) if embed else None
    with ExitStack() as stack:
        bundled = database is None
        if database is None:
            if save is not None and Path(save).exists():
                raise FileExistsError(f"--save: there is a file {save} already; `sqlite-ivf demo {save}` opens it")
            database = save or str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sqlite-ivf-"))) / "packages.db")
            try:
                with closing(connected(database)) as db:
                    data.create(db)
            except BaseException:
                Path(database).unlink(missing_ok=True)
                raise
            table = data.TABLE
        elif not Path(database).is_file():
            raise FileNotFoundError(f"there is no file {database}")
        db = stack.enter_context(closing(connected(database)))
        fetched(db, "PRAGMA query_only = ON")
        chosen = Table(db, table) if table is not None else _only(db, database)
        yield Demo(
            chosen,
            str(Path(database).resolve()),
            texts=texts,
            label=label,
            embed=function,
            examples=EXAMPLES if bundled else (),
            about=ABOUT if bundled else "",
        )


def _only(db: Any, database: str) -> Table:
    found = []
    for (name,) in fetched(db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%'"):
        try:
            found.append(Table(db, name))
        except ValueError:
            continue
    if len(found) != 1:
        raise ValueError(
            f"{database} has {len(found)} ivf tables{': name one of ' * bool(found)}{', '.join(t.name for t in found)}"
        )
    return found[0]


def serve(demo: Demo, *, host: str = "127.0.0.1", port: int = 0, browser: bool = False) -> None:
    """Serves the page until Ctrl-C, or SIGTERM."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop) if threading.current_thread() is threading.main_thread() else None
    try:
        try:
            server = Server(demo, host, port)
        except OSError as error:
            raise OSError(f"{host}, port {port}: {error.strerror or error}") from error
        with server:
            print(f"{demo.table.name} of {demo.file}: {server.url}  (Ctrl-C ends it)", flush=True)
            if browser:
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            server.serve_forever()
    except KeyboardInterrupt:
        print(flush=True)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        demo.close()
