"""Datasette: pages and JSON of a table of vectors, and a canned query that searches it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import tempfile
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlite_vec
from datasette.app import Datasette

from made_up import embed, show

KNN = "SELECT rowid, name, round(distance, 4) AS d FROM pets WHERE embedding MATCH :q AND k = 3 ORDER BY distance"


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


def words(html: str) -> list[str]:
    """The text of the cells of a page's table."""
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html, re.S)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", c)).split()) for c in cells]


async def main(file: str) -> None:
    canned = {"databases": {Path(file).stem: {"queries": {"near": {"sql": KNN}}}}}
    key = "config" if "config" in Datasette.__init__.__code__.co_varnames else "metadata"
    ds = Datasette([file], **{key: canned})
    await ds.invoke_startup()
    q = quote(json.dumps(embed("cat", 4)))
    pages = ["/pets/pets", "/pets/pets/2", "/pets/keyed", "/pets/keyed/one", "/pets/pets?_where=age+%3D+1", "/pets/pets?age__exact=1", "/pets/pets?_sort=name"]
    pages += ["/pets/pets?_facet=age", "/pets/pets?k=5", "/pets/pets?_search=cat", "/pets/pets?_next=2", f"/pets/near?q={q}"]
    for page in pages:
        answer = await ds.client.get(page)
        show(page.split("?q=")[0], [answer.status_code, words(answer.text)])
        path, _, rest = page.partition("?")
        answer = await ds.client.get(f"{path}.json?_shape=array&" + rest)
        body: Any = answer.json()
        show("json of " + page.split("?q=")[0], [answer.status_code, body if answer.status_code == 200 else None])
    show("csv", (await ds.client.get("/pets/pets.csv?_size=2")).text.split())
    show("database", [(await ds.client.get("/pets")).status_code, (await ds.client.get("/-/versions.json")).status_code])


with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "pets.db")
    make(path)
    asyncio.run(main(path))
