"""Datasette: pages and JSON of a table of vectors, and a canned query that searches it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import tempfile
from html import unescape
from pathlib import Path
from urllib.parse import quote

import sqlite_vec
from datasette.app import Datasette

from made_up import embed, show

KNN = "SELECT rowid, name, round(distance, 4) AS d FROM pets WHERE embedding MATCH :q AND k = 3 ORDER BY distance"
NAMES = ["Link", "rowid", "id", "embedding", "name", "age", "note", "d"]
PAGES = "pets/pets pets/pets/2 pets/keyed pets/keyed/one pets/pets?_where=age+%3D+1 pets/pets?name__exact=bee pets/pets?_sort_desc=name"
PAGES += " pets/pets?_facet=age pets/pets?_search=cat pets/pets?_size=2 pets/nothing pets/pets?age__exact=1 pets/pets?k=5 pets/pets?_next=2"


def make(file: str) -> None:
    db = sqlite3.connect(file)
    db.enable_load_extension(True)
    sqlite_vec.load(db)
    db.execute("CREATE VIRTUAL TABLE pets USING vec0(embedding float[4], name TEXT, age INTEGER, +note TEXT)")
    for i, name in enumerate(["ant", "bee", "cat", "dog", "eel"], 1):
        db.execute("INSERT INTO pets(rowid, embedding, name, age, note) VALUES (?, ?, ?, ?, ?)", [i, json.dumps(embed(name, 4)), name, i % 2, name * 2])
    db.execute("CREATE VIRTUAL TABLE keyed USING vec0(id TEXT PRIMARY KEY, embedding float[4])")
    db.execute("INSERT INTO keyed VALUES ('one', '[1, 0, 0, 0]'), ('two', '[0, 1, 0, 0]')")
    db.commit()
    db.close()


def table(html: str) -> list[list[str]]:
    """The cells of a page's table, without the hidden columns, which Datasette shows too."""
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr.*?</tr>", html, re.S)]
    texts = [[" ".join(unescape(re.sub(r"<[^>]+>|&#x25b[0-9a-f];|[▼▲]", " ", c)).split()) for c in row] for row in rows]
    keep = [i for i, name in enumerate(texts[0]) if name in NAMES] if texts else []
    return [[row[i] for i in keep if i < len(row)] for row in texts]


async def main(file: str) -> None:
    canned = {"databases": {"pets": {"queries": {"near": {"sql": KNN}}}}}
    key = "config" if "config" in Datasette.__init__.__code__.co_varnames else "metadata"
    ds = Datasette([file], **{key: canned})
    await ds.invoke_startup()
    for page in [*PAGES.split(), f"pets/near?q={quote(json.dumps(embed('cat', 4)))}"]:
        path, _, rest = page.partition("?")
        name = path if path == "pets/near" else page
        answer = await ds.client.get("/" + page)
        show(f"page {name}", [answer.status_code, table(answer.text)])
        answer = await ds.client.get(f"/{path}.json?_shape=array&{rest}")
        rows = answer.json() if answer.status_code == 200 else []
        show(f"json {name}", [answer.status_code, [{k: v for k, v in r.items() if k in NAMES} if isinstance(r, dict) else r for r in rows]])
    csv = (await ds.client.get("/pets/pets.csv?_size=2")).text.split()
    show("csv", [line.split(",")[:6] for line in csv])
    show("hidden columns", csv[0].split(",")[6:])
    show("database", [(await ds.client.get(page)).status_code for page in ["/", "/pets", "/-/versions.json"]])


with tempfile.TemporaryDirectory() as folder:
    make(f"{folder}/pets.db")
    asyncio.run(main(str(Path(folder) / "pets.db")))
