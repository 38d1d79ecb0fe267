"""Loading the extension into a connection."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Callable, Optional, Protocol, Type

__all__ = ["Connection", "LoadError", "aload", "connect", "install_as_sqlite_vec", "load", "loadable_path"]

#: The sqlite-vec whose grammar and functions the library speaks, see docs/from-sqlite-vec.md.
SQLITE_VEC = "0.1.9"

WAYS_OUT = """
Ways out:
- pip install 'sqlite-ivf[apsw]', and apsw.Connection(...) in place of sqlite3.connect(...);
- pip install pysqlite3-binary, and `import pysqlite3 as sqlite3` (Linux, x86-64);
- a Python whose sqlite3 can: those of Linux distributions, python.org for Windows, Homebrew, conda, uv; with pyenv
  PYTHON_CONFIGURE_OPTS=--enable-loadable-sqlite-extensions pyenv install ...
sqlite_ivf.connect(...) takes the first of sqlite3, pysqlite3 and apsw that can."""


class LoadError(RuntimeError):
    """The extension cannot be loaded; the text says why, and what to do."""


class Connection(Protocol):
    """What this package asks of a connection: `sqlite3`, `pysqlite3` and `apsw` have it."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...  # noqa: D102
    def executemany(self, sql: str, parameters: Any, /) -> Any: ...  # noqa: D102
    def cursor(self) -> Any: ...  # noqa: D102
    def interrupt(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: Optional[Type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType], /
    ) -> Any: ...


def loadable_path() -> str:
    """The library without its suffix, for `load_extension` and the shell's `.load`.

    `SQLITE_IVF_LIBRARY` names another one, such as a build for GPUs.

    >>> import os
    >>> os.path.basename(loadable_path())
    'libsqlite_ivf'
    """
    given = os.environ.get("SQLITE_IVF_LIBRARY")
    if given:
        library = Path(given)
    else:
        suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        library = Path(__file__).with_name("libsqlite_ivf" + suffix)
    if not library.is_file():
        whose = "SQLITE_IVF_LIBRARY names" if given else "this installation should have"
        raise LoadError(
            f"there is no file {library}, which {whose}: `pip install sqlite-ivf` brings a library, "
            "`cargo build --release --lib --features loadable,vec0` builds one"
        )
    return str(library.with_suffix(""))


def _package(connection: object) -> str:
    """The package that a connection is of."""
    for kind in type(connection).__mro__:
        package = kind.__module__.split(".")[0]
        if package in ("sqlite3", "_sqlite3", "pysqlite3", "apsw", "aiosqlite"):
            return package
    return ""


def _refused(error: Exception) -> bool:
    return "not authorized" in str(error)


def _explain(connection: Any, error: Exception) -> LoadError:
    text = f"the library does not load: {error}"
    if "3.38" in text:
        text += WAYS_OUT
    return LoadError(text)


def _cannot(connection: object) -> Exception:
    if _package(connection) in ("sqlite3", "_sqlite3", "aiosqlite"):
        return LoadError(f"the sqlite3 module of this Python ({sys.executable}) was built without extension loading.{WAYS_OUT}")
    kind = type(connection)
    return TypeError(
        f"a connection of sqlite3, pysqlite3 or apsw is expected, got {kind.__module__}.{kind.__qualname__}"
        ": of a wrapper, give the connection inside it"
    )


def load(connection: Any) -> None:
    """Loads the extension into a connection of `sqlite3`, `pysqlite3` or `apsw`.

    Extension loading is switched on for this, and off again if it was off.

    >>> import sqlite3
    >>> db = sqlite3.connect(":memory:")
    >>> load(db)
    >>> db.execute("SELECT vec_to_json('[1, 2]')").fetchone()
    ('[1.0,2.0]',)
    """
    path = loadable_path()
    _load(connection, lambda: connection.load_extension(path))


def _load(connection: Any, attempt: Callable[[], object]) -> None:
    if _package(connection) == "aiosqlite":
        raise TypeError("load() takes no connection of aiosqlite: await sqlite_ivf.aload(connection)")
    if not hasattr(connection, "load_extension") or not hasattr(connection, "enable_load_extension"):
        raise _cannot(connection)
    try:
        try:
            attempt()
        except Exception as error:
            if not _refused(error):
                raise
            connection.enable_load_extension(True)
            try:
                attempt()
            finally:
                connection.enable_load_extension(False)
    except Exception as error:
        raise _explain(connection, error) from error


def _load_as_sqlite_vec(connection: Any) -> None:
    """Loads the extension by sqlite-vec's entry point, where the host takes its name (apsw, and sqlite3 from Python 3.12 on): its
    functions then print as sqlite-vec's do.
    """
    path, name = loadable_path(), "sqlite3_vec_init"
    named: Callable[[], object] = lambda: connection.load_extension(path)  # noqa: E731
    if _package(connection) == "apsw":
        named = lambda: connection.load_extension(path, name)  # noqa: E731
    elif _package(connection) in ("sqlite3", "_sqlite3") and sys.version_info >= (3, 12):
        named = lambda: connection.load_extension(path, entrypoint=name)  # noqa: E731
    _load(connection, named)


async def aload(connection: Any) -> None:
    """Loads the extension into a connection of `aiosqlite`.

    >>> import aiosqlite, asyncio  # which has a sqlite3 inside
    >>> async def version():
    ...     async with aiosqlite.connect(":memory:") as db:
    ...         await aload(db)
    ...         async with db.execute("SELECT ivf_version() LIKE 'v%'") as cursor:
    ...             return await cursor.fetchone()
    >>> asyncio.run(version())
    (1,)
    """
    if _package(connection) != "aiosqlite":
        raise TypeError(f"aload() takes a connection of aiosqlite, got {type(connection).__qualname__}: load() takes others")
    path = loadable_path()
    try:
        try:
            await connection.load_extension(path)
        except AttributeError:
            raise _cannot(connection) from None
        except Exception as error:
            if not _refused(error):
                raise
            await connection.enable_load_extension(True)
            try:
                await connection.load_extension(path)
            finally:
                await connection.enable_load_extension(False)
    except LoadError:
        raise
    except Exception as error:
        raise _explain(connection, error) from error


def _opener(name: str) -> Optional[Callable[..., Any]]:
    """What opens a connection with a package, none if it is not here or cannot load extensions."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    if name == "apsw":
        return module.Connection  # type: ignore[no-any-return]
    fits = hasattr(module.Connection, "enable_load_extension") and module.sqlite_version_info >= (3, 38)
    return module.connect if fits else None


def connect(database: str = ":memory:", **options: Any) -> Connection:
    """Opens a database with the extension loaded: by `sqlite3` if it can, else by `pysqlite3` or `apsw`, whichever is installed.

    `options` go to what opens it. What `Table` does not do is then written for the one that opened it: `apsw` has no `commit`,
    and all of them are context managers that commit at the end.

    >>> db = connect()
    >>> db.execute("SELECT vec_length('[1, 2, 3]')").fetchone()
    (3,)
    """
    for name in ("sqlite3", "pysqlite3", "apsw"):
        opener = _opener(name)
        if opener is not None:
            if name == "apsw" and options.get("isolation_level", "") is None:
                del options["isolation_level"]  # apsw never opens a transaction by itself
            connection = opener(os.fspath(database), **options)
            try:
                load(connection)
            except BaseException:
                connection.close()
                raise
            return connection  # type: ignore[no-any-return]
    raise LoadError(f"no SQLite from 3.38 that loads extensions was found for this Python ({sys.executable}).{WAYS_OUT}")


def install_as_sqlite_vec() -> ModuleType:
    """Lets `import sqlite_vec` find this package, for programs whose imports cannot be changed. Call it before they import it.

    The module has `load`, `loadable_path`, `serialize_float32`, `serialize_int8` and `__version__`. Tables `USING vec0` are then
    tables of this library: docs/from-sqlite-vec.md.

    >>> _ = install_as_sqlite_vec()
    >>> import sqlite3, sqlite_vec
    >>> db = sqlite3.connect(":memory:")
    >>> sqlite_vec.load(db)
    >>> _ = db.execute("CREATE VIRTUAL TABLE v USING vec0(embedding float[2])")
    """
    from .vectors import serialize_float32, serialize_int8

    there = sys.modules.get("sqlite_vec")
    if there is not None and not hasattr(there, "_sqlite_ivf"):
        raise RuntimeError(f"sqlite_vec is imported already, from {there.__file__}: call install_as_sqlite_vec() before that")
    module = ModuleType("sqlite_vec", "sqlite-ivf in the place of sqlite-vec.")
    vars(module).update(
        load=_load_as_sqlite_vec,
        loadable_path=loadable_path,
        serialize_float32=serialize_float32,
        serialize_int8=serialize_int8,
        __version__=SQLITE_VEC,
        _sqlite_ivf=True,
    )
    sys.modules["sqlite_vec"] = module
    return module
