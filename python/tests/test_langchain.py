from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import sqlite_ivf
import test_pages
from conftest import nearest, needs, random
from sqlite_ivf.langchain import IVFStore

DIM = 1024
COLUMNS = {"year": "INTEGER", "lang": "TEXT", "score": "FLOAT", "live": "BOOLEAN"}


class Words(Embeddings):
    """Texts with common words are near each other."""

    def embed_query(self, text: str) -> List[float]:
        vector = [0.001] * DIM
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % DIM] += 1
        return vector

    def embed_documents(self, texts: List[str]) -> List[List[float]]:
        return [self.embed_query(text) for text in texts]


class Never(Embeddings):
    def embed_query(self, text: str) -> List[float]:
        raise AssertionError("a model is asked for nothing")

    embed_documents = embed_query


class Fixed(Never):
    def __init__(self, vector: List[float]) -> None:
        self.vector = vector

    def embed_query(self, text: str) -> List[float]:
        return self.vector


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[Any]:
        with IVFStore(self.get_embeddings()) as store:
            yield store


class TestStandardWithAllThereIs(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[Any]:
        columns = {"id_": "TEXT", "foo": "TEXT PARTITION KEY"}
        with IVFStore(self.get_embeddings(), tmp_path / "s.db", hybrid=True, columns=columns, element="float16") as store:
            yield store
            if store.table is not None:
                check(store)


def check(store: IVFStore) -> None:
    """The FTS5 table has the texts of the table, under its rowids, and finds them."""
    db = store.connection
    expected = db.execute("SELECT rowid, text FROM langchain ORDER BY rowid").fetchall()
    assert db.execute("SELECT rowid, text FROM langchain_fts ORDER BY rowid").fetchall() == expected
    db.execute("INSERT INTO langchain_fts(langchain_fts) VALUES ('integrity-check')")
    db.execute("INSERT INTO langchain(langchain) VALUES ('integrity-check')")
    assert not db.in_transaction or db.execute("COMMIT")


def ids(documents: List[Document]) -> List[Any]:
    return [document.id for document in documents]


def metadata(i: int) -> Dict[str, Any]:
    given = {"year": 2000 + i % 20, "lang": ["en", "de", "fr"][i % 3], "score": i / 8, "live": i % 2 == 0, "other": [i]}
    return {name: value for name, value in given.items() if i % 7 or name == "other"}


def filled(db: Any, n: int = 300, **options: Any) -> IVFStore:
    store = IVFStore(Never(), db, columns=COLUMNS, **options)
    store.add_embeddings([f"text {i}" for i in range(n)], random(n, 8).tolist(), [metadata(i) for i in range(n)], ids=names(n))
    return store


def names(n: int) -> List[str]:
    return [str(i) for i in range(n)]


def test_a_filter_is_that_of_plain_python(db: Any) -> None:
    store, rows, query = filled(db), random(300, 8), random(1, 8, 1)[0]
    filters: List[Any] = [
        ({"year": 2003}, lambda m: m.get("year") == 2003),
        ({"lang": "de", "live": True}, lambda m: m.get("lang") == "de" and m["live"]),
        ({"year": None}, lambda m: "year" not in m),
        ({"year": {"$ne": None}}, lambda m: "year" in m),
        ({"year": {"$exists": False}}, lambda m: "year" not in m),
        ({"year": [2001, 2002]}, lambda m: m.get("year") in (2001, 2002)),
        ({"year": {"$in": [2001]}}, lambda m: m.get("year") == 2001),
        ({"lang": {"$in": []}}, lambda m: False),
        ({"lang": {"$nin": ["de", "fr"]}}, lambda m: m.get("lang") == "en"),
        ({"year": {"$nin": list(range(1900, 2010))}}, lambda m: m.get("year", 0) >= 2010),
        ({"year": {"$gt": 2005, "$lte": 2010}}, lambda m: 2005 < m.get("year", 0) <= 2010),
        ({"score": {"$between": [2, 9.5]}}, lambda m: 2 <= m.get("score", 0) <= 9.5),
        ({"score": {"$lt": 3}}, lambda m: m.get("score", 9) < 3),
        ({"lang": {"$ne": "en"}}, lambda m: m.get("lang", "en") != "en"),
        ({"lang": {"$like": "%e%"}}, lambda m: "e" in m.get("lang", "")),
        ({"lang": {"$like": "E%"}}, lambda m: m.get("lang", "").startswith("e")),
        ({"$or": [{"lang": "de"}, {"year": {"$gte": 2015}}]}, lambda m: m.get("lang") == "de" or m.get("year", 0) >= 2015),
        ({"$not": {"lang": "de", "live": True}}, lambda m: "lang" in m and not (m["lang"] == "de" and m["live"])),
        ({"$and": [{"lang": "de"}, {"live": False}], "year": 2007}, lambda m: m.get("year") == 2007 and m["lang"] == "de"),
        ({"year": np.int64(2003), "score": {"$gte": np.float32(2)}}, lambda m: m.get("year") == 2003 and m["score"] >= 2),
        ({}, lambda m: True),
    ]
    for given, holds in filters:
        among = np.array([i for i in range(300) if holds(metadata(i))], int)
        expected = [str(among[i]) for i in nearest(rows[among], query, 10, "cosine")] if len(among) else []
        assert ids(store.similarity_search_by_vector(query, 10, filter=given)) == expected, given


def test_a_filter_that_cannot_be_is_an_error_that_says_what_can(db: Any) -> None:
    store = filled(db, 5)
    cases: List[Any] = [
        ({"yaer": 5}, "'yaer' is no column of 'langchain', its columns are year, lang, score, live"),
        ({"other": 5}, "'other' is no column"),
        ({"year": "2003"}, r"filter: year \$eq: a whole number is expected \(the column is INTEGER\), got '2003'"),
        ({"year": True}, "a whole number is expected"),
        ({"year": 2**63}, "a whole number is expected"),
        ({"live": 1}, "True or False is expected"),
        ({"score": {"$gt": None}}, "a number is expected .* got None"),
        ({"score": float("nan")}, "NaN"),
        ({"year": {"$grt": 1}}, r"unknown operator '\$grt', expected one of \$eq, \$ne"),
        ({"year": {}}, "an operator is expected"),
        ({"year": {"$in": 5}}, "a list is expected, got 5"),
        ({"year": {"$between": [1]}}, "the smallest and the largest"),
        ({"year": {"$like": "2%"}}, "the column must be TEXT, it is INTEGER"),
        ({"lang": ["d\0"]}, r"filter: lang \$in: a text without NUL"),
        ({"$or": []}, "a list of filters"),
        ({"$or": [{}]}, "a list of filters"),
        ({"$not": {}}, "expects a filter"),
        ("year = 5", "a dict of columns and values is expected, got 'year = 5'"),
    ]
    for given, expected in cases:
        with pytest.raises(ValueError, match=expected):
            store.similarity_search_by_vector([1.0] * 8, filter=given)
    with pytest.raises(TypeError, match="unknown argument 'filters', expected one of filter, per, nprobe"):
        store.similarity_search_by_vector([1.0] * 8, filters={})
    with pytest.raises(Exception, match="per must be a metadata or partition column"):
        store.similarity_search_by_vector([1.0] * 8, per="other")
    with pytest.raises(Exception, match="nprobe must be"):
        store.similarity_search_by_vector([1.0] * 8, nprobe=0)
    with pytest.raises(ValueError, match="'year' is no column of 'langchain', it has none"):
        IVFStore(Never()).similarity_search_by_vector([1.0] * 8, filter={"year": 5})


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip", "l1"])
def test_answers_distances_and_relevance_are_those_of_brute_force(db: Any, metric: str) -> None:
    store = filled(db, metric=metric)
    rows, query = random(300, 8), random(1, 8, 1)[0]
    hits = store.similarity_search_with_score_by_vector(query.tolist(), 10, recall_target=1)
    assert [document.id for document, _ in hits] == [str(i) for i in nearest(rows, query, 10, metric)]
    relevance = store._select_relevance_score_fn()
    scores = [relevance(distance) for _, distance in store.similarity_search_with_score_by_vector(query, 300)]
    assert len(scores) == 300 and scores == sorted(scores, reverse=True) and 0 <= scores[-1] < scores[0] <= 1
    best = rows[int(str(hits[0][0].id))].astype(float)
    similar = {
        "cosine": best @ query / np.linalg.norm(best) / np.linalg.norm(query),
        "ip": min(best @ query, 1),
        "l2": 1 / (1 + np.linalg.norm(best - query)),
        "l1": 1 / (1 + np.abs(best - query).sum()),
    }
    assert scores[0] == pytest.approx(similar[metric], abs=1e-5)
    assert IVFStore(Never(), db, relevance_score_fn=lambda distance: 0.25)._select_relevance_score_fn()(7) == 0.25


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip", "l1"])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.3, 0.0])
def test_mmr_is_the_plain_rule(db: Any, metric: str, share: float) -> None:
    store = filled(db, metric=metric)
    rows, query = random(300, 8).astype(float), random(1, 8, 2)[0].astype(float)

    def distance(a: Any, b: Any) -> float:
        if metric == "cosine":
            return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        return float({"l2": np.linalg.norm(a - b), "ip": -(a @ b), "l1": np.abs(a - b).sum()}[metric])

    near = nearest(rows, query, 30, metric)
    chosen = near[:1]
    while len(chosen) < 6:
        left = [i for i in near if i not in chosen]
        gain = [share * distance(rows[i], query) - (1 - share) * min(distance(rows[i], rows[j]) for j in chosen) for i in left]
        chosen.append(left[int(np.argmin(gain))])
    found = ids(store.max_marginal_relevance_search_by_vector(query.tolist(), 6, 30, share))
    assert found == [str(i) for i in near if i in chosen]
    if metric == "cosine":
        theirs = maximal_marginal_relevance(query, list(rows[near]), share, 6)
        assert sorted(found) == sorted(str(near[i]) for i in theirs)


def test_mmr_takes_a_k_above_its_candidates_and_filters(db: Any) -> None:
    store = filled(db)
    assert len(store.max_marginal_relevance_search_by_vector([1.0] * 8, 40)) == 40
    found = store.max_marginal_relevance_search_by_vector([1.0] * 8, 5, filter={"lang": "de"}, per="year", nprobe=-1)
    assert {document.metadata["lang"] for document in found} == {"de"}
    assert len({document.metadata["year"] for document in found}) == 5
    with pytest.raises(Exception, match="mmr must be a number from 0"):
        store.max_marginal_relevance_search_by_vector([1.0] * 8, lambda_mult=2)


def test_per_gives_the_nearest_of_each_value(db: Any) -> None:
    store, rows, query = filled(db), random(300, 8), random(1, 8, 1)[0]
    order = nearest(rows, query, 300, "cosine")
    first: Dict[Any, List[int]] = {}
    for i in order:
        first.setdefault(metadata(i).get("year"), []).append(i)
    for per, n in (("year", 1), (("year", 3), 3), (["year", 2], 2)):
        wanted = {i for of in list(first.values())[:5] for i in of[:n]}
        found = ids(store.similarity_search_by_vector(query, 5, per=per))
        assert found == [str(i) for i in order if i in wanted]


TEXTS = ["the red fox runs", "a blue whale swims", "error E-42 stops the engine", "a red engine", "the sea is blue"]


def test_hybrid_is_that_of_the_table(db: Any) -> None:
    store = IVFStore.from_texts(
        TEXTS, Words(), [{"n": i} for i in range(5)], ids=names(5), database=db, hybrid=True, columns={"n": "INTEGER"}
    )
    table = store.table
    assert table is not None
    for query, text in (("red fox", None), ("engine", "E-42"), ("whale", 'a "quoted* (text')):
        hits = table.hybrid("langchain_fts", Words().embed_query(query), text or query, 3)
        found = store.hybrid_search_with_score(query, 3, text=text)
        assert [(document.id, score) for document, score in found] == [
            (table.get([rowid], "id")[0][0], score) for rowid, score in zip(hits.ids, hits.scores)
        ]
    assert ids(store.hybrid_search("a fox", filter={"n": {"$gte": 3}})) in (["3", "4"], ["4", "3"])
    assert ids(store.hybrid_search("a fox", filter={"$or": [{"n": 1}, {"n": [2]}]}, k=1, weights=(0, 1))) == ["1"]
    assert ids(store.hybrid_search("nothing", text="red engine", mode="all", weights=(0, 1), k=1)) == ["3"]
    given: Any = {"fusion": "sum", "candidates": 5, "weights": (0, 1), "rank_constant": 1, "nprobe": -1}
    assert ids(store.hybrid_search("x", 1, text="fox", **given)) == ["0"]
    cases: List[Any] = [
        ({"mode": "some"}, "fts_mode must be one of any, all, fts5, got 'some'"),
        ({"per": "n"}, "unknown argument 'per', expected one of text, filter, mode"),
        ({"filter": {"m": 1}}, "'m' is no column"),
    ]
    for arguments, expected in cases:
        with pytest.raises(Exception, match=expected):
            store.hybrid_search("fox", **arguments)
    with pytest.raises(ValueError, match="hybrid_search needs the FTS5 table 'other_fts'"):
        IVFStore(Words(), db, table="other").hybrid_search("fox")


def test_an_upsert_keeps_the_rowid_and_the_fts5_table_right(db: Any) -> None:
    store = IVFStore.from_texts(TEXTS, Words(), ids=names(5), database=db, hybrid=True)
    rowids = dict(db.execute("SELECT id, rowid FROM langchain").fetchall())
    store.add_texts(["a green frog", "a new one", "a yellow bird"], ids=["1", "9", "3"])
    check(store)
    after = dict(db.execute("SELECT id, rowid FROM langchain").fetchall())
    assert {name: after[name] for name in rowids} == rowids and sorted(after) == [*names(5), "9"]
    assert db.execute("SELECT count(*) FROM langchain_fts WHERE langchain_fts MATCH 'whale'").fetchall() == [(0,)]
    assert ids(store.hybrid_search("green frog", 1)) == ["1"]
    store.delete(["1", "nothing"])
    check(store)
    assert ids(store.hybrid_search("green frog", 9, weights=(0, 1), text="frog", candidates=1)) != ["1"]
    generator = np.random.default_rng(5)
    for _ in range(30):
        some = [str(i) for i in generator.choice(12, 4, replace=False)]
        if generator.random() < 0.3:
            store.delete(some)
        else:
            store.add_texts([f"word{i} {generator.integers(5)}" for i in some], ids=some)
        check(store)
    store.delete()
    check(store)
    assert store.similarity_search("fox") == []


def test_an_fts5_table_can_come_later_and_is_kept_by_every_store(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with IVFStore(Words(), path) as first:
        first.add_texts(TEXTS[:2], ids=["0", "1"])
        with IVFStore(Words(), path, hybrid=True, tokenize="porter") as second:
            first.add_texts(TEXTS[2:], ids=["2", "3", "4"])
            check(second)
            assert ids(second.hybrid_search("nothing", 1, text="swimming", weights=(0, 1))) == ["1"]
            assert ids(first.hybrid_search("red fox", 1)) == ["0"]
        with pytest.raises(ValueError, match="tokenize='ascii', but table 'langchain_fts' exists, made by: CREATE"):
            IVFStore(Words(), path, hybrid=True, tokenize="ascii")


def test_a_file_is_found_as_it_was_left(opened: Callable[[str], Any], tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    store = IVFStore(Words(), opened(path), columns=COLUMNS, metric="l2", train_at=500, model="words-1")
    deep = {"year": 2001, "deep": {"a": [1, None, 0.5, "ü"]}}
    document = Document(id="ä'\"", page_content="the 'red' fox \U0001f98a", metadata=deep)
    assert store.add_documents([document, Document(page_content="no id")])[0] == document.id
    again = IVFStore(Words(), opened(path), columns=COLUMNS, metric="l2", train_at=500, model="words-1")
    assert again.get_by_ids(["nothing", document.id or "", document.id or ""]) == [document]
    assert again.similarity_search_with_score("a red fox", 1, filter={"year": 2001})[0][0] == document
    assert IVFStore(Words(), opened(path)).similarity_search("red fox", 1) == [document]
    cases: List[Any] = [
        ({"metric": "cosine"}, "metric='cosine', but table 'langchain' exists with metric='l2'"),
        ({"columns": {"year": "TEXT"}}, "columns={'year': 'TEXT'}, but table 'langchain' exists with columns={'year': 'INTEGER', "),
        ({"dim": 3}, "dim=3, but table 'langchain' exists with dim=1024"),
        ({"element": "float16"}, "element='float16', but table"),
        ({"train_at": 50}, "train_at=50, but table 'langchain' exists, made by: CREATE"),
        ({"model": "words-2"}, "words-2"),
    ]
    for arguments, expected in cases:
        with pytest.raises(Exception, match=re.escape(expected)):
            IVFStore(Words(), opened(path), **arguments)
    db = opened(path)
    sqlite_ivf.Table.create(db, "bare", 3)
    db.execute("CREATE VIRTUAL TABLE left_fts USING fts5(text)")
    with pytest.raises(ValueError, match="table 'left_fts' exists without 'left'"):
        IVFStore(Words(), db, table="left").add_texts(["fox"])
    with pytest.raises(ValueError, match="'bare' was not made by IVFStore"):
        IVFStore(Words(), db, table="bare")


def test_partitions_are_filtered_and_changed_by_an_upsert(db: Any) -> None:
    store = IVFStore(Never(), db, columns={"book": "TEXT PARTITION KEY", "page": "INTEGER"}, hybrid=True)
    rows, query = random(200, 8), random(1, 8, 1)[0]
    books = ["sky", "sea", None]
    for shift in (0, 1):
        given = [{"book": books[(i + shift) % 3], "page": i} for i in range(200)]
        store.add_embeddings(names(200), rows.tolist(), given, ids=names(200))
        check(store)
        for book in books:
            among = np.array([i for i in range(50, 200) if books[(i + shift) % 3] == book])
            found = store.similarity_search_by_vector(query, 7, filter={"book": book, "page": {"$gte": 50}})
            assert ids(found) == [str(among[i]) for i in nearest(rows[among], query, 7, "cosine")]


def test_a_store_opens_a_file_by_apsw_where_sqlite3_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apsw = needs("apsw")
    monkeypatch.setattr(sqlite_ivf.loading, "_opener", lambda name: apsw.Connection if name == "apsw" else None)
    with IVFStore(Words(), tmp_path / "s.db", hybrid=True) as store:
        asyncio.run(store.aadd_texts(TEXTS, ids=names(5)))
        assert type(store.connection) is apsw.Connection and ids(asyncio.run(store.asimilarity_search("red fox", 1))) == ["0"]


def test_two_stores_live_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with IVFStore(Words(), path, table="one") as one, IVFStore(Words(), path, table='"two"', hybrid=True) as two:
        one.add_texts(TEXTS, ids=names(5))
        two.add_texts(TEXTS[::-1], ids=names(5))
        assert ids(one.similarity_search("red fox", 1)) == ["0"] and ids(two.similarity_search("red fox", 1)) == ["4"]
        assert ids(two.hybrid_search("red fox", 1)) == ["4"]
        same = IVFStore(Words(), one.connection, table='"two"')
        same.delete(["4"])
        assert same._lock is one._lock is not two._lock
        assert two.get_by_ids(["4"]) == [] and one.get_by_ids(["4"]) != []


def test_threads_and_tasks_write_and_read_at_once(tmp_path: Path) -> None:
    with IVFStore(Words(), tmp_path / "s.db", hybrid=True) as store, IVFStore(Words(), tmp_path / "s.db") as other:
        failed: List[BaseException] = []

        def work(i: int) -> None:
            try:
                mine = [store, other][i % 2]
                for j in range(5):
                    mine.add_texts([f"word{i} number{j}"], ids=[f"{i}-{j}"])
                    assert ids(mine.similarity_search(f"word{i} number{j}", 1)) == [f"{i}-{j}"]
                mine.delete([f"{i}-0"])
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed and store.table is not None and len(store.table) == 24
        check(store)

        async def many() -> List[Any]:
            return list(await asyncio.gather(*(store.asimilarity_search(f"word{i} number1", 1) for i in range(6))))

        assert [ids(found) for found in asyncio.run(many())] == [[f"{i}-1"] for i in range(6)]


def test_a_connection_of_one_thread_says_how_to_open_it(db: Any) -> None:
    store = IVFStore.from_texts(TEXTS, Words(), database=db)
    if type(db).__module__.startswith("apsw"):
        assert len(asyncio.run(store.asimilarity_search("fox"))) == 4
        return
    with pytest.raises(RuntimeError, match="Open the connection with check_same_thread=False"):
        asyncio.run(store.asimilarity_search("fox"))
    with pytest.raises(RuntimeError, match="Open the connection with check_same_thread=False"):
        asyncio.run(store.aadd_texts(["fox"]))


def test_deleted_ids_can_be_given_again(db: Any) -> None:
    store = IVFStore.from_texts(TEXTS, Words(), ids=names(5), database=db)
    assert store.delete(["1", "2", "nothing"]) is True and len(store.get_by_ids(names(5))) == 3
    assert store.add_texts(["again"], [{"a": 1}], ids=["1"]) == ["1"]
    assert store.get_by_ids(["1"])[0].page_content == "again"
    assert store.delete([]) and len(store.get_by_ids(names(5))) == 4
    assert store.delete() and store.get_by_ids(names(5)) == []
    others: List[Any] = ["1", [1]]
    for wrong in others:
        with pytest.raises(ValueError, match="ids: "):
            store.delete(wrong)
        with pytest.raises(ValueError, match="ids: "):
            store.get_by_ids(wrong)


def test_an_add_is_all_or_nothing(db: Any) -> None:
    store = IVFStore(Words(), db, columns={"year": "INTEGER"}, hybrid=True)
    cases: List[Any] = [
        (["a", "b"], {"ids": ["x", "x"]}, "ids: 'x' is given twice, for texts 0 and 1"),
        (["a", "b"], {"ids": ["x"]}, "ids: 1 for 2 texts"),
        (["a", "b"], {"metadatas": [{}]}, "metadatas: 1 for 2 texts"),
        (["a"], {"ids": ["a\0b"]}, "a text without NUL"),
        (["a"], {"ids": [5]}, "each id is a text or None, got 5"),
        (["a", 5], {}, "text 1 is no text: 5"),
        ("abc", {}, "texts: a list is expected, got 'abc'"),
        (["a", "b"], {"ids": ["x", "y"], "metadatas": [{}, {"year": "soon"}]}, "document 'y': year: a whole number is expected"),
        (["a"], {"ids": ["x"], "metadatas": [{"at": object()}]}, "document 'x': values are what JSON has"),
        (["a"], {"ids": ["x"], "metadatas": [{1: 2}]}, "document 'x': a dict with texts as keys"),
        (["a"], {"ids": ["x"], "metadatas": [{"a": [float("inf")]}]}, "document 'x': values are what JSON has"),
        (["a"], {"batch_size": 5}, "unknown argument 'batch_size'"),
    ]
    for texts, arguments, expected in cases:
        with pytest.raises((ValueError, TypeError), match=expected):
            store.add_texts(texts, **arguments)
        assert store.table is None and not db.in_transaction
        with pytest.raises((ValueError, TypeError), match=expected):  # before the model is asked
            IVFStore(Never(), columns={"year": "INTEGER"}).add_texts(texts, **arguments)
    store.add_texts(["a"], [{"year": 5}], ids=["x"])
    with pytest.raises(Exception, match="Dimension mismatch"):
        store.add_embeddings(["b", "c"], [[1.0] * DIM, [1.0] * 5], ids=["x", "y"])
    with pytest.raises(ValueError, match="embeddings: 1 for 2 texts"):
        store.add_embeddings(["b", "c"], [[1.0] * DIM])
    assert store.get_by_ids(["x", "y"]) == [Document(id="x", page_content="a", metadata={"year": 5})]
    check(store)
    assert store.add_texts([]) == []


def test_an_add_belongs_to_a_transaction_that_is_open(db: Any) -> None:
    store = IVFStore.from_texts(["one"], Words(), ids=["1"], database=db, hybrid=True)
    db.execute("BEGIN")
    store.add_texts(["two"], ids=["2"])
    store.delete(["1"])
    with pytest.raises(ValueError, match="a text or None"):
        store.add_texts(["three"], ids=[3])
    assert db.in_transaction and ids(store.similarity_search("two")) == ["2"]
    db.execute("ROLLBACK")
    assert ids(store.similarity_search("two")) == ["1"]
    check(store)
    other = IVFStore(Words(), db, table="other")
    db.execute("BEGIN")
    other.add_texts(["two"], ids=["2"])
    db.execute("ROLLBACK")  # with the table
    assert other.similarity_search("two") == [] and other.add_texts(["three"], ids=["3"]) == ["3"]


def test_a_thousand_documents_go_in_and_come_back(db: Any) -> None:
    store = filled(db, 1000)
    assert store.table is not None and len(store.table) == 1000
    expected = [Document(id=str(i), page_content=f"text {i}", metadata=metadata(i)) for i in range(1000)]
    assert store.get_by_ids(each for each in names(1000)) == expected  # type: ignore[arg-type]
    assert (store.table.vectors(range(1, 1001)) == random(1000, 8)).all()
    year, live, stored = db.execute("SELECT year, live, metadata FROM langchain WHERE id = '1'").fetchone()
    assert (year, live, json.loads(stored)) == (2001, 0, metadata(1))


def test_retrievers_of_each_type_answer(db: Any) -> None:
    store = IVFStore.from_documents([Document(page_content=text, id=str(i)) for i, text in enumerate(TEXTS)], Words(), database=db)
    assert ids(store.as_retriever(search_kwargs={"k": 2, "nprobe": -1}).invoke("the red fox")) == ["0", "3"]
    assert len(store.as_retriever(search_type="mmr", search_kwargs={"k": 3, "lambda_mult": 0.2}).invoke("the red fox")) == 3
    above = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.8})
    assert ids(above.invoke("the red fox")) == ["0"]
    with pytest.raises(TypeError, match="unknown argument 'probes'"):
        store.as_retriever(search_kwargs={"probes": 2}).invoke("fox")


def test_what_a_store_cannot_be_made_of_is_an_error(db: Any) -> None:
    cases: List[Any] = [
        ({"metric": "dot"}, "metric must be one of cosine, l2, ip, l1, got 'dot'"),
        ({"element": "bit"}, "element must be one of float32, float16, bfloat16, got 'bit'"),
        ({"columns": {"year": "DATE"}}, "the type of 'year' must be INTEGER, FLOAT, .* got 'DATE'"),
        ({"columns": {"Text": "TEXT"}}, "the table has a 'Text' of its own, as it has id, embedding"),
        ({"columns": {"model": "TEXT"}}, "the table has a 'model' of its own"),
        ({"content": "docs"}, "unknown argument 'content', expected one of nprobe"),
        ({"tokenize": "porter"}, "tokenize='porter' is for hybrid=True"),
        ({"dim": 0}, "0"),
        ({"nlist": -3, "dim": 3}, "nlist"),
    ]
    for arguments, expected in cases:
        with pytest.raises(Exception, match=expected):
            IVFStore(Words(), db, **arguments)
        assert db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    store = IVFStore(Words(), db, dim=DIM, columns={"year": "integer  partition key"}, hybrid=True)
    assert store.table is not None and "PARTITION KEY" in store.table.created
    assert store.similarity_search("fox", filter={"year": 5}) == store.hybrid_search("fox") == []


def test_a_search_of_another_model_is_an_error(db: Any) -> None:
    store = IVFStore.from_texts(TEXTS, Words(), database=db, model="it's", hybrid=True)
    assert len(store.similarity_search("fox")) == len(store.hybrid_search("fox", nprobe=-1)) == 4
    assert store.table is not None
    store.table.set_model("new", instead_of="it's")
    for call in (store.similarity_search, store.hybrid_search, lambda text: store.add_texts([text])):
        with pytest.raises(Exception, match="new"):
            call("fox")


def test_the_module_without_langchain_says_what_to_install() -> None:
    code = "import sys; sys.modules['langchain_core'] = None; import sqlite_ivf; import sqlite_ivf.langchain"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: sqlite_ivf.langchain needs langchain-core" in done.stderr
    assert "pip install 'sqlite-ivf[langchain]'" in done.stderr
    code = "import sqlite_ivf, sys; assert 'langchain_core' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_pages.test_the_blocks_of_a_page_run_in_their_order("docs/langchain.md", tmp_path, monkeypatch)


@pytest.mark.parametrize("n", [*range(1, 21), 30, 49, 50, 51, 60])
def test_a_filter_has_any_number_of_conditions(db: Any, n: int) -> None:
    store, rows, query = filled(db, hybrid=True), random(300, 8), random(1, 8, 1)[0]
    store._embedding = Fixed(query.tolist())
    out = [*range(2000, 2000 + min(n, 17)), *range(3000, 3000 + n - min(n, 17))]
    terms: List[Any] = [{"score": {"$ne": each / 8}} for each in range(n)]
    filters: List[Any] = [
        ({"year": {"$nin": out}}, lambda m: m.get("year", out[0]) not in out),
        ({"year": {"$nin": out}, "lang": {"$ne": "fr"}}, lambda m: m.get("year", out[0]) not in out and m["lang"] != "fr"),
        ({"$and": terms}, lambda m: m.get("score", 0) * 8 >= n),
        ({"$and": [{"$not": each} for each in terms[1:3] * n] or [{"score": -1}]}, lambda m: n == 2 and m.get("score") == 1 / 8),
        ({"$or": [*terms, {"score": 0}]}, lambda m: "score" in m),
    ]
    for filter, passes in filters:
        among = [i for i in range(300) if passes(metadata(i))]
        expected = [str(among[at]) for at in nearest(rows[among], query, 5, "cosine")] if among else []
        assert ids(store.similarity_search("", 5, filter=filter, nprobe=-1)) == expected, filter
        everything = store.max_marginal_relevance_search("", 300, 300, filter=filter, per="score")
        assert {int(each) for each in ids(everything)} <= set(among) and bool(everything) == bool(among)
        assert sorted(map(int, ids(store.hybrid_search("text", 300, filter=filter, nprobe=-1)))) == among


def test_a_k_that_is_no_whole_number_is_an_error_that_names_it(db: Any) -> None:
    store = filled(db, hybrid=True)
    store._embedding = Fixed([1.0] * 8)
    assert len(store.similarity_search("", k=np.int64(3))) == 3
    for k in (None, 1.5, "3", 2**63):
        for search in (store.similarity_search, store.max_marginal_relevance_search, store.hybrid_search):
            with pytest.raises(ValueError, match=f"k must be a whole number from 0 to 9223372036854775807, got {k!r}"):
                search("text", k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"filter: score \$gt: a number is expected \(the column is FLOAT\), got 1000"):
        store.similarity_search("text", filter={"score": {"$gt": 10**400}})
    with pytest.raises(ValueError, match="fetch_k must be a whole number from 0 to 9223372036854775807, got None"):
        store.max_marginal_relevance_search("text", fetch_k=None)  # type: ignore[arg-type]
