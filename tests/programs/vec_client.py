"""sqlite-vec-client: a table of texts that triggers keep in step with its vectors."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from sqlite_vec_client import SQLiteVecClient

from made_up import embed, show

TEXTS = ["north", "south", "east", "west", "up"]

with tempfile.TemporaryDirectory() as folder:
    for distance in ["cosine", "L2", "L1"]:
        with SQLiteVecClient(table="places", db_path=str(Path(folder) / f"{distance}.db")) as client:
            client.create_table(dim=8, distance=distance, unique_text=True)
            vectors = [embed(t) for t in TEXTS]
            show(f"{distance} add", lambda: client.add(TEXTS, vectors, [{"n": i} for i in range(5)]))
            show(f"{distance} search", lambda: client.similarity_search(embed("east"), top_k=3))
            show(f"{distance} get", lambda: client.get(2))
            show(f"{distance} replace", lambda: client.add(["up"], [embed("down")], on_conflict="replace"))
            show(f"{distance} ignore", lambda: client.add(["up"], [embed("up")], on_conflict="ignore"))
            show(f"{distance} update", lambda: client.update(1, text="pole", embedding=embed("pole")))
            show(f"{distance} delete", lambda: [client.delete(3), client.delete_many([4])])
            show(f"{distance} after", lambda: client.similarity_search(embed("pole"), top_k=9))
            show(f"{distance} count", client.count)
            show(f"{distance} filter", lambda: client.filter_by_metadata({"n": 1}))
            stored = "SELECT rowid, text_embedding FROM places_vec ORDER BY rowid LIMIT 1"
            show(f"{distance} stored", lambda: [list(r) for r in client.connection.execute(stored)])

            def undone() -> int:
                try:
                    with client.transaction():
                        client.add(["left"], [embed("left")])
                        raise sqlite3.OperationalError("made up")
                except sqlite3.OperationalError:
                    return client.connection.execute("SELECT count(*) FROM places_vec").fetchone()[0]

            show(f"{distance} undone", undone)
            show(f"{distance} wrong length", lambda: client.connection.execute("INSERT INTO places_vec(rowid, text_embedding) VALUES (77, '[1, 2]')"))
