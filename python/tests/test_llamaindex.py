from __future__ import annotations

import asyncio
import importlib
import pickle
import random as numbers
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest

from conftest import needs, random

pytest.importorskip("llama_index.core")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from sqlite_ivf.llamaindex import IVFVectorStore

DIM = 8
DECLARED = {"year": "INTEGER", "score": "FLOAT", "lang": "TEXT", "live": "BOOLEAN", "query": "TEXT"}
WORDS = ["fox", "Whale", "ÉCLAIR", "stone", "river", "ßeta"]


def some_nodes(n: int, seed: int = 0) -> List[Any]:
    """Nodes of `n // 4` documents. Each declared key is there a second time under a name that is not declared."""
    dice, vectors = numbers.Random(seed), random(n, DIM, seed)
    nodes = []
    for i in range(n):
        metadata: Dict[str, Any] = {}
        for name, values in [
            ("year", range(2000, 2010)),
            ("score", [i / 4 for i in range(10)]),
            ("lang", ["de", "en", "fr", "", "EN"]),
            ("live", [True, False]),
            ("query", WORDS),
        ]:
            if dice.random() < 0.8:
                metadata[name] = metadata[f"{name} it's.x"] = dice.choice(values)
            elif dice.random() < 0.3:
                metadata[name] = metadata[f"{name} it's.x"] = None
        if dice.random() < 0.8:
            metadata["tags"] = dice.sample(WORDS, dice.randrange(4))
            metadata["counts"] = dice.sample(range(5), dice.randrange(4))
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {i // 4}")} if i % 5 else {}
        text = " ".join(dice.choices(WORDS, k=4))
        nodes.append(TextNode(id_=f"n{i}", text=text, embedding=vectors[i].tolist(), metadata=metadata, relationships=source))
    return nodes


def a_filter(dice: numbers.Random) -> Any:
    """A filter that SimpleVectorStore takes."""
    some: Dict[str, List[Any]] = {
        "year": list(range(1999, 2011)),
        "score": [0.25, 1.0, 2, 3.1],
        "lang": ["de", "en", "", "x"],
        "live": [0, 1],
        "query": WORDS,
    }
    word = dice.choice(["==", "!=", ">", ">=", "<", "<=", "in", "nin", "any", "all", "contains", "text_match", "is_empty"])
    if word == "text_match" and dice.random() < 0.5:
        word = "text_match_insensitive"
    if word in ("any", "all", "contains") and dice.random() < 0.7:
        key = dice.choice(["tags", "counts"])
        values: List[Any] = WORDS if key == "tags" else list(range(6))
    else:
        base = dice.choice(["lang", "query"] if word in ("any", "all", "contains") or "text" in word else list(some))
        values = [each[1:3] for each in some[base]] if "text" in word or word in ("any", "all", "contains") else some[base]
        if word == "text_match_insensitive":
            values = [each.swapcase() for each in values]
        key = base + dice.choice(["", " it's.x"])
        if word in ("==", "!=", "in", "nin") and dice.random() < 0.2:
            values = some["query" if base in ("year", "score") else "year"]  # of another type: nothing is equal
    if word == "is_empty":
        return MetadataFilter(key=dice.choice([key, "tags", "nothing"]), operator=word, value=None)
    if word in ("in", "nin", "any", "all"):
        size = dice.randrange(0, 4) if dice.random() < 0.9 else 40
        return MetadataFilter(key=key, operator=word, value=dice.choices(values, k=size))
    return MetadataFilter(key=key, operator=word, value=dice.choice(values))


def some_filters(dice: numbers.Random, depth: int = 0) -> Any:
    parts = [
        some_filters(dice, depth - 1) if depth and dice.random() < 0.5 else a_filter(dice) for _ in range(dice.randrange(1, 4))
    ]
    return MetadataFilters(filters=parts, condition=dice.choice(["and", "or", "not", None]))


def passes(node: Any, filters: Any) -> bool:
    """What SimpleVectorStore says of each filter, with the nesting that it has not."""
    results = [
        passes(node, one)
        if isinstance(one, MetadataFilters)
        else build_metadata_filter_fn(lambda _: node.metadata, MetadataFilters(filters=[one]))("")
        for one in filters.filters
    ]
    condition = filters.condition or FilterCondition.AND
    return all(results) if condition == FilterCondition.AND else any(results) == (condition == FilterCondition.OR)


def asked(vector: Any = None, k: int = 5, mode: str = "default", **more: Any) -> Any:
    given = None if vector is None else np.asarray(vector).tolist()
    return VectorStoreQuery(query_embedding=given, similarity_top_k=k, mode=VectorStoreQueryMode(mode), **more)


def where(key: str, word: str, value: Any) -> Any:
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=word, value=value)])


@pytest.fixture
def store(opened: Callable[[], Any]) -> Any:
    store = IVFVectorStore(opened(), columns=DECLARED, hybrid=True)
    store.add(some_nodes(200))
    return store


def test_every_operator_finds_what_simple_vector_store_finds(store: Any) -> None:
    simple, nodes, dice = SimpleVectorStore(), some_nodes(200), numbers.Random(1)
    simple.add(nodes)
    seen, answers = set(), 0
    for i in range(250):
        filters, query = some_filters(dice), random(1, DIM, 1000 + i)[0]
        mine, other = (each.query(asked(query, 7, filters=filters)) for each in (store, simple))
        assert mine.ids == other.ids, filters
        assert np.allclose(mine.similarities, other.similarities, atol=1e-6)
        assert [node.node_id for node in store.get_nodes(filters=filters)] == [n.node_id for n in nodes if passes(n, filters)]
        seen |= {(one.operator, one.key in DECLARED) for one in filters.filters}
        answers += len(mine.ids)
    assert {operator for operator, _ in seen} == set(FilterOperator) and len(seen) > 23 and 600 < answers < 1700


def test_nested_filters_are_what_they_say(store: Any) -> None:
    nodes, dice = some_nodes(200), numbers.Random(2)
    for i in range(100):
        filters, query = some_filters(dice, 3), random(1, DIM, i)[0]
        expected = [node.node_id for node in nodes if passes(node, filters)]
        assert [node.node_id for node in store.get_nodes(filters=filters)] == expected, filters
        assert sorted(store.query(asked(query, 200, filters=filters)).ids) == sorted(expected)
    for word, key in [("year", "year"), ("year it's.x", "year")]:
        both = MetadataFilters(filters=[where(word, "==", 2001), where(key, "==", 2002)])
        assert store.get_nodes(filters=both) == store.query(asked(query, filters=both)).ids == []
        assert store.query(asked(query, mode="hybrid", query_str="fox", filters=both)).ids == []
    empty = MetadataFilters(filters=[])
    assert len(store.get_nodes(filters=empty)) == len(store.get_nodes()) == 200
    assert len(store.get_nodes(filters=MetadataFilters(filters=[empty, where("year", "==", 2003)], condition="or"))) == 200


def test_conditions_on_declared_columns_are_part_of_the_search(store: Any) -> None:
    query = random(1, DIM, 5)[0]
    parts = [where("year", ">", 2003), where("lang", "in", ["de", "en"]), where("live", "!=", 0), where("query", "nin", ["fox"])]
    said = '"year" > ? AND "lang" IN (SELECT value FROM json_each(?)) AND "live" IS NOT ? AND ("query" IS NOT ?)'
    sql, _ = store._conditions(store.table, MetadataFilters(filters=parts))
    assert sql == f"({said})"
    sql, _ = store._conditions(store.table, MetadataFilters(filters=parts, condition="or"))
    assert sql.startswith('(rowid IN (SELECT rowid FROM "main"."llama_index" WHERE ')
    many = where("year", "nin", list(range(2001, 2050)))
    assert all(
        node.metadata["year"] == 2000 for node in store.query(asked(query, 200, filters=many)).nodes if node.metadata.get("year")
    )


def test_documents_and_nodes_limit_a_search(store: Any) -> None:
    query, nodes = random(1, DIM, 5)[0], some_nodes(200)

    def found(**more: Any) -> List[str]:
        return sorted(store.query(asked(query, 200, **more)).ids)

    both = sorted(node.node_id for node in nodes if node.ref_doc_id in ("doc 3", "doc 7"))
    assert len(both) == 6 and found(doc_ids=["doc 3", "doc 7", "nothing"]) == both
    assert found(doc_ids=["doc 3", "doc 7"], node_ids=[both[0], "n0"]) == both[:1]
    assert found(node_ids=["n1", "n2"], filters=where("year", "nin", [])) == ["n1", "n2"]
    assert found(doc_ids=[]) == [] and len(found(node_ids=[])) == len(found()) == 200  # an index says [] for all nodes
    assert store.get_nodes([]) == []
    for key in ("ref_doc_id", "doc_id", "document_id"):
        assert found(filters=where(key, "==", "doc 3")) == sorted(n.node_id for n in nodes if n.ref_doc_id == "doc 3")
    text = store.query(asked(None, 200, "text_search", query_str="fox", doc_ids=["doc 3"]))
    assert set(text.ids) == {n.node_id for n in nodes if n.ref_doc_id == "doc 3" and "fox" in n.text}


def test_the_best_node_of_each_document(store: Any) -> None:
    query = random(1, DIM, 5)[0]
    best: Dict[Any, str] = {}
    for node in store.query(asked(query, 200)).nodes:
        best.setdefault(node.ref_doc_id, node.node_id)
    assert store.query(asked(query, 6), per="ref_doc_id").ids == list(best.values())[:6]
    assert len(store.query(asked(query, 3), per=("year", 2)).ids) == 6
    with pytest.raises(ValueError, match=r"per is one of ref_doc_id, doc_id, document_id, year, .* got 'yaer'"):
        store.query(asked(query), per="yaer")


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip", "l1"])
def test_similarities_are_larger_where_nodes_are_nearer(db: Any, metric: str) -> None:
    store = IVFVectorStore(db, metric=metric)
    nodes, query = some_nodes(50), random(1, DIM, 9)[0].astype(np.float64)
    store.add(nodes)
    rows = np.array([node.embedding for node in nodes])
    scores = {
        "cosine": rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query),
        "l2": -np.linalg.norm(rows - query, axis=1),
        "ip": rows @ query,
        "l1": -np.abs(rows - query).sum(axis=1),
    }[metric]
    result = store.query(asked(query, 50))
    assert result.ids == [f"n{i}" for i in np.argsort(-scores)] and np.allclose(result.similarities, -np.sort(-scores), atol=1e-5)


def test_mmr_chooses_by_its_rule(store: Any) -> None:
    nodes = some_nodes(200)
    simple = SimpleVectorStore()
    simple.add(nodes)
    rows = np.array([node.embedding for node in nodes])
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    for i, threshold in enumerate([0.0, 0.3, 0.5, 0.9, 1.0, None]):
        query = random(1, DIM, i)[0]
        # The second one that SimpleVectorStore chooses is by the usual rule; those after it only differ from the one before.
        mine, other = (s.query(asked(query, 2, "mmr"), mmr_threshold=threshold) for s in (store, simple))
        by_k = store.query(asked(query, 2, "mmr", mmr_threshold=threshold), mmr_prefetch_k=200)
        assert set(by_k.ids) == set(other.ids) and set(mine.ids) <= set(store.query(asked(query, 50)).ids)
        share, near = 0.5 if threshold is None else threshold, rows @ query / np.linalg.norm(query)
        pool = np.argsort(-near)[:60].tolist()
        chosen = [pool.pop(0)]
        while len(chosen) < 6:
            chosen.append(max(pool, key=lambda row: share * near[row] - (1 - share) * max(rows[row] @ rows[c] for c in chosen)))
            pool.remove(chosen[-1])
        result = store.query(asked(query, 6, "mmr", mmr_threshold=threshold), mmr_prefetch_factor=10)
        assert set(result.ids) == {f"n{row}" for row in chosen}
        assert np.allclose(result.similarities, sorted(near[chosen], reverse=True), atol=1e-5)
    assert store.query(asked(query, 2, "mmr", mmr_threshold=0.0), mmr_threshold=1.0).ids == store.query(asked(query, 2)).ids


def test_a_text_search_finds_words_and_a_hybrid_search_both(store: Any) -> None:
    query, nodes = random(1, DIM, 5)[0], some_nodes(200)
    text = store.query(asked(None, 200, "text_search", query_str="(a whale?"))
    assert set(text.ids) == {node.node_id for node in nodes if "Whale" in node.text}
    assert text.similarities == sorted(text.similarities, reverse=True) and text.similarities[-1] > 0
    every = store.query(asked(None, 200, "text_search", query_str="whale fox"), fts_mode="all")
    assert set(every.ids) == {node.node_id for node in nodes if "Whale" in node.text and "fox" in node.text}

    def hybrid(alpha: Optional[float] = None, k: int = 10, **more: Any) -> Any:
        return store.query(asked(query, k, "hybrid", query_str="whale", alpha=alpha, **more))

    assert hybrid(1.0).ids == store.query(asked(query, 10)).ids and hybrid(0.0).ids == text.ids[:10]
    vector, score = store.query(asked(query, 200)).ids, {}
    for i in range(200):
        score[f"n{i}"] = 0.5 / (61 + vector.index(f"n{i}")) + (0.5 / (61 + text.ids.index(f"n{i}")) if f"n{i}" in text.ids else 0)
    deep = hybrid(sparse_top_k=200)
    assert np.allclose(deep.similarities, sorted(score.values(), reverse=True)[:10]) and len(deep.ids) == 10
    assert len(hybrid(hybrid_top_k=3).ids) == 3
    only = hybrid(filters=MetadataFilters(filters=[where("year", ">", 2005), where("tags", "contains", "fox")]))
    assert only.ids and all(node.metadata["year"] > 2005 and "fox" in node.metadata["tags"] for node in only.nodes)


def test_words_follow_what_is_replaced_and_deleted(store: Any) -> None:
    def found(word: str) -> List[str]:
        ids: List[str] = store.query(asked(None, 9, "text_search", query_str=word)).ids
        return ids

    store.add([TextNode(id_="n7", text="zebra", embedding=[1.0] * DIM), TextNode(id_="new", text="zebra", embedding=[1.0] * DIM)])
    assert sorted(found("zebra")) == ["n7", "new"] and len(store.get_nodes()) == 201
    store.delete_nodes(["n7"])
    assert found("zebra") == ["new"]
    store.clear()
    assert found("zebra") == [] and store.query(asked([1.0] * DIM)).ids == [] and len(store.table) == 0
    store.add(some_nodes(3))
    assert len(store.get_nodes()) == 3
    for index in ("llama_index", "llama_index_fts"):
        store.client.execute(f"INSERT INTO {index}({index}) VALUES ('integrity-check')")


def test_deleting_deletes_what_simple_vector_store_deletes(store: Any) -> None:
    nodes, simple = some_nodes(200), SimpleVectorStore()
    simple.add(nodes)
    ids = [f"n{i}" for i in range(0, 200, 3)]
    for each in (store, simple):
        each.delete("doc 9")
        each.delete("no such document")
        each.delete_nodes(ids, where("year", ">", 2004))
        each.delete_nodes(filters=where("tags", "contains", "fox"))
        each.delete_nodes(["n10", "nothing"])
        each.delete_nodes([])
    query = random(1, DIM, 5)[0]
    left = store.query(asked(query, 200)).ids
    assert left == simple.query(asked(query, 200)).ids and 20 < len(left) < 190
    for nothing in (None, MetadataFilters(filters=[])):
        with pytest.raises(ValueError, match="takes node_ids or filters, got neither"):
            store.delete_nodes(filters=nothing)


def test_nodes_come_back_as_they_were(db: Any) -> None:
    relations = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d", metadata={"title": "T"}, hash="h"),
        NodeRelationship.PARENT: RelatedNodeInfo(node_id="p"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
    }
    common: Dict[str, Any] = {"embedding": [1.0, 0.5], "relationships": relations, "excluded_llm_metadata_keys": ["a"]}
    nodes = [
        TextNode(id_="1", text='it\'s "ü"\n', metadata={"a": [1, {"b": None}], "ü": 1.5, "t": True}, start_char_idx=3, **common),
        Node(id_="2", text_resource=MediaResource(text="*m*", mimetype="text/markdown"), **common),
        Node(id_="3", **common),
        Document(id_="4", text="document", metadata={"year": 1}, **common),
        IndexNode(id_="5", text="index", index_id="other", obj=TextNode(id_="in", text="inner"), **common),
        ImageNode(id_="6", text="image", image="QUJD", **common),
        ImageDocument(id_="7", text="image", image="QUJD", **common),
    ]
    store = IVFVectorStore(db, hybrid=True)
    assert store.add(nodes) == list("1234567")
    for before, after in zip(nodes, store.get_nodes()):
        assert (type(after), after.to_dict(), after.ref_doc_id) == (type(before), before.to_dict(), "d")
    (found,) = store.query(asked([1, 0.5], 1, node_ids=["4"])).nodes
    assert found.text == "document" and found.embedding is None
    assert store.query(asked(None, 1, "text_search", query_str="m")).ids == ["2"]
    assert [node.node_id for node in store.get_nodes(["3", "nothing", "1", "3"])] == ["3", "1"]


def test_an_add_is_all_or_nothing_and_the_last_of_an_id_stays(db: Any) -> None:
    store = IVFVectorStore(db, columns={"year": "INTEGER", "live": "BOOLEAN", "lang": "TEXT PARTITION KEY"})
    assert store.add([]) == [] and store.table is None and store.query(asked([1, 2])).ids == store.get_nodes() == []
    for wrong, says in [
        (TextNode(id_="x", embedding=[1.0]), "node x: embeddings have 2 dimensions, got 1"),
        (TextNode(id_="x"), "embedding not set"),
        (TextNode(id_="x", embedding=[1, 2], metadata={"year": "soon"}), "node x: year is a whole number or None, got 'soon'"),
        (TextNode(id_="x", embedding=[1, 2], metadata={"live": 2}), "node x: live is a boolean or None, got 2"),
        (TextNode(id_="x", embedding=[1, 2], metadata={"lang": ["de"]}), r"node x: lang is a text or None, got \['de'\]"),
        (TextNode(id_="x", embedding=[1, 2], metadata={"n": float("nan")}), "node x: metadata cannot be kept as JSON"),
        (TextNode(id_="x", embedding=[0, 0]), "zero vector"),
    ]:
        with pytest.raises(Exception, match=says):
            store.add([TextNode(id_="a", embedding=[1, 0]), wrong])
        assert store.table is None and not db.in_transaction
    db.execute("BEGIN")
    store.add([TextNode(id_="a", embedding=[1, 0, 0])])
    db.execute("ROLLBACK")
    assert store.table is None and store.query(asked([1, 2])).ids == []
    twice = [TextNode(id_="a", text=text, embedding=[1, i], metadata={"lang": text}) for i, text in enumerate("xyz")]
    assert store.add(twice) == ["a", "a", "a"] and [node.text for node in store.get_nodes()] == ["z"]
    with pytest.raises(ValueError, match="embeddings have 2 dimensions, got 3"):
        store.add([TextNode(id_="a", embedding=[1, 0, 0])])
    db.execute("BEGIN")
    store.add([TextNode(id_="b", embedding=[1, 0], metadata={"lang": "x"})])
    with pytest.raises(ValueError, match="year is a whole number"):
        store.add([TextNode(id_="c", embedding=[1, 0], metadata={"year": 1.5})])
    assert len(store.get_nodes()) == 2
    db.execute("ROLLBACK")
    assert [node.node_id for node in store.get_nodes()] == ["a"]


def test_what_is_wrong_is_named_with_what_is_right(store: Any, db: Any) -> None:
    query = [1.0] * DIM
    cases: List[Any] = [
        (asked(query, mode="svm"), {}, ValueError, "one of default, mmr, hybrid, text_search, got 'svm'"),
        (asked(query), {"nprob": 3}, TypeError, "a query of mode default takes per, nprobe, .* got nprob=3"),
        (asked(query), {"mmr_threshold": 0.5}, TypeError, "got mmr_threshold=0.5"),
        (asked(query, mode="mmr"), {"mmr_threshold": 2}, ValueError, "mmr_threshold is between 0 and 1, got 2"),
        (asked(query, mode="mmr"), {"mmr_prefetch_factor": 0.5}, ValueError, "mmr_prefetch_factor is at least 1, got 0.5"),
        (asked(query, mode="mmr"), {"mmr_prefetch_k": 4}, ValueError, r"at least similarity_top_k \(5\), got 4"),
        (asked(query, mode="mmr"), {"mmr_prefetch_k": 9, "mmr_prefetch_factor": 2}, ValueError, "not both, got 2 and 9"),
        (asked(query, mode="hybrid"), {}, ValueError, "mode hybrid has a query_str, got None"),
        (asked(None), {}, ValueError, "mode default has a query_embedding, got None"),
        (asked(query, mode="hybrid", query_str="x", alpha=2), {}, ValueError, "alpha is between 0 .* got 2"),
        (asked(query, output_fields=["a"]), {}, ValueError, "output_fields is for other stores"),
        (asked(query[:3]), {}, ValueError, "vectors have 8 dimensions"),
        (asked(query, filters=where("year", ">", "x")), {}, ValueError, "year > is on a column of numbers, got 'x'"),
        (asked(query, filters=where("year", "contains", 2)), {}, ValueError, "the column year has numbers"),
        (asked(query, filters=where("year", "in", 2)), {}, ValueError, "year in takes a list of texts or numbers, got 2"),
        (asked(query, filters=where("x", "==", ["a"])), {}, ValueError, r"x == takes a text or a number, got \['a'\]"),
        (asked(query, filters=where("x", "<", float("nan"))), {}, ValueError, "takes finite numbers, got nan"),
        (asked(query, filters=where("x", "text_match", 1)), {}, ValueError, "x text_match takes a text, got 1"),
        (asked(query, filters=where('x"', "==", 1)), {}, ValueError, "no quotes, backslashes or control characters"),
    ]
    for given, kwargs, error, says in cases:
        with pytest.raises(error, match=says):
            store.query(given, **kwargs)
    with pytest.raises(ValueError, match="hybrid=True"):
        IVFVectorStore(db, "other").query(asked(query, mode="text_search", query_str="x"))
    with pytest.raises(TypeError, match="add takes nothing else, got wait=True"):
        store.add([], wait=True)
    for columns, says in [
        ({"+x": "TEXT"}, "no name of a column"),
        ({"doc_id": "TEXT"}, "'doc_id' is the node's document already"),
        ({"x": "DATE"}, "x is one of INTEGER, FLOAT, TEXT, BOOLEAN, INTEGER PARTITION KEY, TEXT PARTITION KEY, got 'DATE'"),
    ]:
        with pytest.raises(ValueError, match=says):
            IVFVectorStore(db, "other", columns=columns)
    with pytest.raises(TypeError, match="takes database, .*, options, got dim=3"):
        IVFVectorStore(db, "other", dim=3)
    with pytest.raises(TypeError, match="got stores_text=False"):
        IVFVectorStore(db, "other", stores_text=False)


def test_settings_reach_the_search(db: Any) -> None:
    store: Any = IVFVectorStore(db, columns={"n": "INTEGER"}, options={"train_at": "off", "element": "float16"})
    rows = random(1500, DIM)
    store.add([TextNode(id_=str(i), embedding=row.tolist(), metadata={"n": i}) for i, row in enumerate(rows)])
    store.table.train(nlist=20)
    store.query(asked(rows[3], 3), nprobe=4)
    assert store.table.profile()["probe"][0] == 4
    assert store.query(asked(rows[3], 1), recall_target=1).ids == ["3"]
    assert len(store.query(asked(rows[3], 50, filters=where("n", "<", 50)), nprobe=1).ids) == 50
    with pytest.raises(Exception, match="nprobe must be"):
        store.query(asked(rows[3]), nprobe=0)


def test_a_store_opens_as_it_was_made(tmp_path: Path) -> None:
    path = str(tmp_path / "it's.db")
    options = {"train_at": "off", "element": "float16", "model": "toy, 1"}
    made = IVFVectorStore(path, "my nodes", columns={"year": "integer"}, metric="l2", options=options)
    made.add([TextNode(id_="a", text="red fox", embedding=[1, 0], metadata={"year": 5})])
    late: Any = IVFVectorStore(path, "my nodes")
    assert (late.columns, late.metric, late.hybrid, late.table.element) == ({"year": "INTEGER"}, "l2", False, "float16")
    IVFVectorStore(Path(path), "my nodes", columns={"year": "INTEGER"}, metric="l2", options=options).close()
    wrong: List[Any] = [
        ({"columns": {"year": "TEXT"}}, r"has columns \{'year': 'INTEGER'\}, got \{'year': 'TEXT'\}"),
        ({"columns": {}}, r"got \{\}"),
        ({"metric": "cosine"}, "has metric 'l2', got 'cosine'"),
        ({"options": {"nlist": 5}}, "was not made with nlist=5"),
        ({"options": {"element": "int8"}}, "has elements float16, got 'int8'"),
        ({"options": {"model": "another"}}, "is of model"),
    ]
    for given, says in wrong:
        with pytest.raises(Exception, match=says):
            IVFVectorStore(path, "my nodes", **given)
    words = IVFVectorStore(path, "my nodes", hybrid=True)  # which reads the texts that are there
    assert words.query(asked(None, mode="text_search", query_str="fox")).ids == ["a"]
    for again in (IVFVectorStore.from_dict(words.to_dict()), pickle.loads(pickle.dumps(words))):
        assert again.hybrid and again.query(asked([1, 0], filters=where("year", "==", 5))).ids == ["a"]
        again.close()
    late.table.connection.execute("CREATE VIRTUAL TABLE strange USING ivf(v float[2])")
    with pytest.raises(ValueError, match="'strange' is not one of IVFVectorStore: it has no _embedding, _node"):
        IVFVectorStore(path, "strange")
    for store in (made, late, words):
        store.persist(str(tmp_path / "nothing"))
        store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["it's.db"]
    with pytest.warns(UserWarning, match="in memory"):
        IVFVectorStore(":memory:").persist()
    with pytest.raises(ValueError, match="a path or a connection, got None"):
        IVFVectorStore(None)


def test_another_store_of_the_file_sees_what_is_added(tmp_path: Path) -> None:
    first, second = (IVFVectorStore(str(tmp_path / "t.db")) for _ in range(2))
    assert second.get_nodes() == []
    first.add([TextNode(id_="a", embedding=[1, 0])])
    second.add([TextNode(id_="b", embedding=[1, 0])])
    assert first.query(asked([1, 0])).ids == second.query(asked([1, 0])).ids == ["a", "b"]
    words = IVFVectorStore(str(tmp_path / "t.db"), hybrid=True)
    second.add([TextNode(id_="a", text="red", embedding=[1, 0]), TextNode(id_="c", text="red", embedding=[1, 0])])
    first.delete_nodes(["c"])
    assert words.query(asked(None, mode="text_search", query_str="red")).ids == ["a"]
    for store in (first, second, words):
        store.close()


def test_texts_are_read_by_the_tokenizer_of_a_table_that_was_there_before(db: Any) -> None:
    db.execute("CREATE VIRTUAL TABLE llama_index_fts USING fts5(text, tokenize='porter')")
    store = IVFVectorStore(db, hybrid=True)
    store.add([TextNode(id_="a", text="searching", embedding=[1, 0])])
    assert store.query(asked(None, mode="text_search", query_str="searches")).ids == ["a"]


def test_values_of_other_metadata_keep_their_type(db: Any) -> None:
    values: List[Any] = ["[]", [], "", None, "1", 1, 1.0, True, ["1"], [1], {"1": 2}, {}]
    store = IVFVectorStore(db)
    store.add([TextNode(id_=str(i), embedding=[1, i], metadata={"ü.[0]": value}) for i, value in enumerate(values)])

    def found(word: str, value: Any) -> List[int]:
        return [int(node.node_id) for node in store.get_nodes(filters=where("ü.[0]", word, value))]

    assert found("is_empty", None) == [1, 2, 3] and found("==", "[]") == [0] and found("in", ["[]", '["1"]']) == [0]
    assert found("==", 1) == [5, 6, 7] and found("==", "1") == [4] and found("in", ["1"]) == [4]
    assert found("contains", "1") == [4, 8, 10] and found("contains", 1) == [9]
    assert found("==", None) == [] and len(found("!=", None)) == len(values) and found(">", "1") == [0]


def test_a_path_is_opened_by_apsw_where_nothing_else_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apsw = needs("apsw")
    monkeypatch.setattr("sqlite_ivf.loading._opener", lambda name: apsw.Connection if name == "apsw" else None)
    store = IVFVectorStore(str(tmp_path / "t.db"))
    assert asyncio.run(store.async_add([TextNode(id_="a", embedding=[1, 0])])) == ["a"]
    assert isinstance(store.client, apsw.Connection) and asyncio.run(store.aquery(asked([1, 0]))).ids == ["a"]
    store.close()


def test_threads_and_tasks_share_a_store(tmp_path: Path) -> None:
    store = IVFVectorStore(str(tmp_path / "t.db"), hybrid=True, columns={"year": "INTEGER"})
    nodes, errors = some_nodes(160), []

    def work(part: List[Any]) -> None:
        try:
            for i in range(0, len(part), 5):
                store.add(part[i : i + 5])
                assert store.query(asked(part[i].embedding, 1)).ids == [part[i].node_id]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(nodes[i : i + 20],)) for i in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors

    async def tasks() -> None:
        ids = await asyncio.gather(*(store.async_add(nodes[i : i + 10]) for i in range(80, 160, 10)))
        assert [each for some in ids for each in some] == [f"n{i}" for i in range(80, 160)]
        found = await asyncio.gather(*(store.aquery(asked(node.embedding, 1), nprobe=-1) for node in nodes))
        assert [result.ids[0] for result in found] == [node.node_id for node in nodes]
        assert len(await store.aget_nodes()) == 160
        await store.adelete("doc 3")
        await store.adelete_nodes(["n1"])
        await store.adelete_nodes(filters=where("year", ">", 0))
        assert 0 < len(await store.aget_nodes()) < 60
        await store.aclear()
        assert await store.aget_nodes() == []

    asyncio.run(tasks())
    store.close()


def test_a_connection_of_the_caller_works_in_its_thread_and_stays_open(db: Any) -> None:
    store = IVFVectorStore(db)
    asyncio.run(store.async_add([TextNode(id_="a", embedding=[1, 0])]))
    assert asyncio.run(store.aquery(asked([1, 0]))).ids == ["a"] and store.client is db
    store.close()
    assert db.execute('SELECT "_node_id" FROM llama_index').fetchall() == [("a",)]


class Toy(BaseEmbedding):  # type: ignore[misc]
    """Counts letters."""

    def _get_text_embedding(self, text: str) -> List[float]:
        return [text.lower().count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"]

    def _get_query_embedding(self, query: str) -> List[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> List[float]:
        return self._get_text_embedding(query)


def test_an_index_over_a_store(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    store = IVFVectorStore(path, hybrid=True, columns={"year": "INTEGER"})
    texts = ["zzz top of the list", "apples and pears", "a quick fox jumps", "banana boat"]
    documents = [Document(id_=f"d{i}", text=text, metadata={"year": 2000 + i}) for i, text in enumerate(texts)]
    index = VectorStoreIndex.from_documents(
        documents, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=Toy()
    )
    index.insert(Document(id_="d9", text="zebra zoo", metadata={"year": 1990}))
    store.close()

    store = IVFVectorStore(path)
    index = VectorStoreIndex.from_vector_store(store, embed_model=Toy())

    def found(text: str, mode: str = "default", **more: Any) -> List[str]:
        retriever = index.as_retriever(similarity_top_k=2, vector_store_query_mode=mode, **more)
        results = retriever.retrieve(text)
        assert [each.node_id for each in asyncio.run(retriever.aretrieve(text))] == [each.node_id for each in results]
        assert [each.score for each in results] == sorted((each.score for each in results), reverse=True)
        return [each.node.ref_doc_id for each in results]

    assert found("zzzz")[0] == "d0" and found("zzzz", filters=where("year", "<", 2000)) == ["d9"]
    assert found("fox", "text_search") == ["d2"] and "d2" in found("fox", "hybrid", alpha=0.2)
    assert found("zz", doc_ids=["d1"]) == ["d1"] and len(found("zz", "mmr", vector_store_kwargs={"mmr_threshold": 0.1})) == 2
    index.delete_ref_doc("d0")
    assert found("zzzz")[0] == "d9"
    index.update_ref_doc(Document(id_="d9", text="quick apples"))
    assert found("zebra", "text_search") == [] and len(store.get_nodes()) == 4
    index.storage_context.persist(str(tmp_path / "storage"))
    store.close()


def test_without_llama_index_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_index.core.schema", None)
    monkeypatch.delitem(sys.modules, "sqlite_ivf.llamaindex")
    with pytest.raises(ImportError, match=r"needs llama-index-core: pip install 'sqlite-ivf\[llamaindex\]'"):
        importlib.import_module("sqlite_ivf.llamaindex")


def test_importing_the_package_imports_no_llama_index() -> None:
    code = "import sys, sqlite_ivf; assert not any(name.startswith('llama_index') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_filter_has_any_number_of_conditions(store: Any) -> None:
    nodes, query = some_nodes(200), random(1, DIM, 5)[0]
    simple = SimpleVectorStore()
    simple.add(nodes)
    documents, some = [f"doc {i}" for i in range(40)], [f"n{i}" for i in range(0, 200, 2)]
    for n in [*range(1, 21), 40, 60]:
        out = [*range(2000, 2000 + min(n, 8)), *range(3000, 3000 + n - min(n, 8))]
        each = [MetadataFilter(key="year", operator="!=", value=value) for value in out]
        more = [MetadataFilter(key="score", operator=word, value=0.25) for word in ["!="] * n]
        for filters in (where("year", "nin", out), MetadataFilters(filters=each), MetadataFilters(filters=[*each[:4], *more])):
            for mode in ("default", "mmr"):
                given = asked(query, 200, mode, filters=filters)
                assert sorted(store.query(given).ids) == sorted(node.node_id for node in nodes if passes(node, filters))
            assert store.query(asked(query, 7, filters=filters)).ids == simple.query(asked(query, 7, filters=filters)).ids
            both = store.query(asked(query, 200, filters=filters, doc_ids=documents, node_ids=some), per="ref_doc_id", nprobe=-1)
            assert set(both.ids) <= {node.node_id for node in nodes if passes(node, filters) and node.ref_doc_id} & set(some)
            assert both.ids
            mixed = store.query(asked(query, 200, "hybrid", query_str="fox", filters=filters, doc_ids=documents, node_ids=some))
            assert mixed.ids and all(passes(node, filters) for node in mixed.nodes)


def test_a_mode_may_be_a_text_and_numbers_that_sqlite_has_not_are_named(store: Any) -> None:
    query = random(1, DIM, 5)[0].tolist()
    for mode in ("default", "mmr", "hybrid", "text_search"):
        named = VectorStoreQuery(query_embedding=query, similarity_top_k=5, query_str="fox", mode=mode)
        assert store.query(named).ids == store.query(asked(query, 5, mode, query_str="fox")).ids
        for k in (2**63, 1.5, None):
            with pytest.raises(ValueError, match=f"similarity_top_k must be a whole number from 0 to 9223372036854775807, got {k}"):
                store.query(asked(query, k, mode, query_str="fox"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the mode of a query is one of default, mmr, hybrid, text_search, got 'sparse'"):
        store.query(asked(query, mode="sparse"))
    for wrong in ([], [1.0]):
        for mode in ("default", "mmr", "hybrid"):
            with pytest.raises(ValueError, match=f"query_embedding: vectors have 8 dimensions, got {len(wrong)}"):
                store.query(asked(wrong, mode=mode, query_str="fox"))
    for key in ("year", "year it's.x"):
        for word, value in [("==", 2**63), (">", -(2**70)), ("nin", [1, 2**63])]:
            with pytest.raises(ValueError, match=f"the filter {key} {word} takes whole numbers of 64 bits, got -?[0-9]+"):
                store.query(asked(query, filters=where(key, word, value)))
