"""Runs a file of statements by the installed Python package: `host.py MODULE FILE`, MODULE as sqlite3, apsw or pysqlite3."""

import importlib
import sys

import sqlite_ivf

module, file = sys.argv[1:]
sqlite = importlib.import_module(module)
if module == "apsw":
    db = sqlite.Connection(":memory:")
    version = sqlite.sqlite_lib_version()
else:
    db = sqlite.connect(":memory:", isolation_level=None)
    version = sqlite.sqlite_version
sqlite_ivf.load(db)
for statement in open(file).read().split(";\n"):
    if statement.strip():
        try:
            for row in db.execute(statement):
                print("|".join("" if each is None else str(each) for each in row))
        except sqlite.Error as error:
            print(f"error: {error}")
print(f"Python {sys.version.split()[0]}, {module} with SQLite {version}", file=sys.stderr)
