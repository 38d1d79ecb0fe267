"""LangGraph: SqliteStore with an index of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.store.sqlite import SqliteStore

from made_up import embed, show


def embeddings(texts: Sequence[str]) -> list[list[float]]:
    return [[0.0] * 8 if t == "nothing" else embed(t) for t in texts]


def found(items: list) -> list[Any]:
    return [[list(i.namespace), i.key, i.value, i.score] for i in items]


def run(distance: str) -> None:
    index: dict[str, Any] = {"dims": 8, "embed": embeddings, "fields": ["text"], "distance_type": distance}
    with SqliteStore.from_conn_string(":memory:", index=index) as store:
        store.setup()
        for i, text in enumerate(["red", "green", "blue", "yellow"]):
            store.put(("docs",), f"key{i}", {"text": text, "even": i % 2 == 0})
        store.put(("docs", "old"), "key9", {"text": "violet"})
        store.put(("docs",), "unseen", {"text": "grey"}, index=False)
        show(f"{distance} search", lambda: found(store.search(("docs",), query="blue", limit=3)))
        show(f"{distance} all", lambda: found(store.search(("docs",), query="red", limit=20)))
        show(f"{distance} filter", lambda: found(store.search(("docs",), query="red", filter={"even": True})))
        show(f"{distance} offset", lambda: found(store.search(("docs",), query="red", limit=2, offset=1)))
        store.put(("docs",), "key1", {"text": "blue", "even": False})
        store.delete(("docs",), "key2")
        show(f"{distance} changed", lambda: found(store.search(("docs",), query="blue", limit=2)))
        store.put(("docs",), "zero", {"text": "nothing"})
        show(f"{distance} a row of zeros", lambda: found(store.search(("docs",), query="blue", limit=20)))
        show(f"{distance} a query of zeros", lambda: len(store.search(("docs",), query="nothing", limit=20)))


for name in ["cosine", "l2", "inner_product"]:
    run(name)
