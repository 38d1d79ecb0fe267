"""langchain-community: the vector store SQLiteVec."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

from langchain_community.vectorstores import SQLiteVec
from langchain_core.embeddings import Embeddings

from made_up import embed, show


class MadeUp(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(t) for t in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)


TEXTS = ["a cat sleeps", "a dog barks", "rain falls", "the sun shines", "trains are late"]

with tempfile.TemporaryDirectory() as folder:
    file = str(Path(folder) / "vec.db")
    notes = [{"page": i} for i in range(len(TEXTS))]
    store = SQLiteVec.from_texts(TEXTS, MadeUp(), metadatas=notes, table="docs", db_file=file)

    def found(pairs: list) -> list:
        return [[doc.page_content, doc.metadata, score] for doc, score in pairs]

    show("search", lambda: found(store.similarity_search_with_score("rain falls", k=3)))
    show("search of all", lambda: found(store.similarity_search_with_score("a dog barks", k=50)))
    show("by vector", lambda: [d.page_content for d in store.similarity_search_by_vector(embed("a cat sleeps"), k=2)])
    show("added", lambda: store.add_texts(["snow melts", "wind blows"], [{"page": 9}, {"page": 10}]))
    show("after", lambda: found(store.similarity_search_with_score("snow melts", k=2)))
    show("retriever", lambda: [d.page_content for d in store.as_retriever(search_kwargs={"k": 2}).invoke("wind blows")])

    again = SQLiteVec("docs", SQLiteVec.create_connection(file), MadeUp(), file)
    show("reopened", lambda: found(again.similarity_search_with_score("trains are late", k=2)))
    count = "SELECT count(*) AS n, min(rowid) AS low, max(rowid) AS high FROM docs_vec"
    show("rows", lambda: dict(again._connection.execute(count).fetchone()))
    show("all columns", lambda: [list(r) for r in again._connection.execute("SELECT * FROM docs_vec LIMIT 2")])
