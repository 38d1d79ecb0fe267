"""sqlite-utils with its plugin sqlite-utils-sqlite-vec, as a library and at the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlite_utils

from made_up import blob, embed, show

TEXTS = ["apple", "pear", "plum", "cherry"]

with tempfile.TemporaryDirectory() as folder:
    file = str(Path(folder) / "fruit.db")
    db = sqlite_utils.Database(file)
    db.execute("CREATE VIRTUAL TABLE fruit USING vec0(embedding float[8], kind TEXT, +note TEXT)")
    db["fruit"].insert_all({"rowid": i, "embedding": blob(embed(t)), "kind": t[0], "note": t} for i, t in enumerate(TEXTS, 1))
    knn = "SELECT rowid, note, distance FROM fruit WHERE embedding MATCH ? AND k = 3"
    show("rows", lambda: list(db["fruit"].rows))
    show("count", lambda: db["fruit"].count)
    show("columns", lambda: [[c.name, c.type, c.is_pk] for c in db["fruit"].columns])
    show("pks", lambda: db["fruit"].pks)
    show("schema", lambda: db["fruit"].schema)
    show("virtual", lambda: db["fruit"].virtual_table_using)
    show("get", lambda: db["fruit"].get(2))
    show("where", lambda: [r["note"] for r in db["fruit"].rows_where("kind = ?", ["p"])])
    show("knn", lambda: list(db.query(knn, [blob(embed("plum"))])))
    db["fruit"].delete_where("rowid = ?", [3])
    db.execute("UPDATE fruit SET kind = 'x' WHERE rowid = 1")
    db.conn.commit()
    show("changed", lambda: list(db.query("SELECT rowid, kind, note FROM fruit")))
    db.close()

    def tool(*words: str) -> object:
        out = subprocess.run([sys.executable, "-m", "sqlite_utils", *words], capture_output=True, text=True)
        return json.loads(out.stdout) if out.returncode == 0 else {"status": out.returncode}

    query = "SELECT rowid, note, round(distance, 4) AS d FROM fruit WHERE embedding MATCH :q AND k = 2 ORDER BY distance"
    show("tool: query", lambda: tool("query", file, query, "-p", "q", json.dumps(embed("pear"))))
    show("tool: rows", lambda: tool("rows", file, "fruit", "-c", "rowid", "-c", "note"))
    show("tool: every column", lambda: tool("rows", file, "fruit", "--limit", "1"))
    show("tool: function", lambda: tool(":memory:", "SELECT vec_length('[1, 2, 3]') AS n, vec_type('[1]') AS t"))
    show("tool: schema", lambda: subprocess.run([sys.executable, "-m", "sqlite_utils", "schema", file], capture_output=True).returncode)
