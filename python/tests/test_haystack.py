"""Haystack's own tests on the document store, and what they do not reach."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
from datetime import datetime
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest

from conftest import nearest, random

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suite
from haystack.utils.filters import document_matches_filter

from sqlite_ivf.haystack import IVFBM25Retriever, IVFDocumentStore, IVFEmbeddingRetriever, IVFHybridRetriever

VECTORS = random(200, 8)


class _Stores(suite.FilterableDocsFixtureMixin):
    """A store with an index by JSON, and one by columns."""

    @pytest.fixture(params=["json", "columns"])
    def document_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        columns = {"number": "INTEGER", "name": "TEXT", "status": "TEXT"} if request.param == "columns" else None
        store = IVFDocumentStore(tmp_path / "store.db", columns=columns, doubles=True)
        yield store
        store.close()


class TestDocumentStoreBase(_Stores, suite.DocumentStoreBaseTests):
    """Haystack's tests of every store, with the one that each store writes for itself."""

    def test_write_documents(self, document_store: Any) -> None:
        document = Document(content="a text")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError, match=f"ID '{document.id}' already exists in table 'documents'"):
            document_store.write_documents([document])
        assert document_store.filter_documents() == [document]


async def _write_documents_async(self: Any, document_store: Any) -> None:
    assert await document_store.write_documents_async([Document(content="a text")]) == 1


# What newer versions of Haystack test beside these, sync and async. Their async tests are marked for pytest-asyncio.
_MODULES = [suite]
if find_spec("haystack.testing.document_store_async") is not None and find_spec("pytest_asyncio") is not None:
    _MODULES.append(importlib.import_module("haystack.testing.document_store_async"))
for _module in _MODULES:
    for _name, _kind in vars(_module).items():
        if _name.endswith("Test") and _kind.__module__ == _module.__name__ and not issubclass(suite.DocumentStoreBaseTests, _kind):
            own = {"test_write_documents_async": _write_documents_async} if _name == "WriteDocumentsAsyncTest" else {}
            bases = (_kind,) if issubclass(_kind, suite.FilterableDocsFixtureMixin) else (_kind, suite.FilterableDocsFixtureMixin)
            globals()[f"Test{_name}"] = type(f"Test{_name}", bases, {"document_store": _Stores.document_store, **own})


def documents(n: int = 200) -> List[Any]:
    return [
        Document(
            id=f"d{i}",
            content=f"the text of number {i}, {['red', 'green', 'blue'][i % 3]}",
            meta={"year": 2000 + i % 25, "lang": ["en", "de"][i % 2], "live": i % 3 == 0, "deep": {"x": i}}
            if i % 10 else {"lang": "xx"},
            embedding=VECTORS[i].tolist() if i % 7 != 6 else None,
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(params=[None, {"year": "INTEGER", "lang": "TEXT", "live": "BOOLEAN"}], ids=["json", "columns"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    store = IVFDocumentStore(columns=request.param, train_at="off")
    store.write_documents(documents())
    yield store
    store.close()


def expected(query: Any, k: int, filters: Any = None, metric: str = "cosine") -> List[str]:
    among = [int(each.id[1:]) for each in documents() if each.embedding and (not filters or document_matches_filter(filters, each))]
    return [f"d{among[at]}" for at in nearest(VECTORS[among], query, k, metric)]


def ids(found: Any) -> List[str]:
    return [document.id for document in found]


def field(name: str, operator: str, value: Any) -> Dict[str, Any]:
    return {"field": f"meta.{name}", "operator": operator, "value": value}


def test_a_retrieval_gives_the_documents_and_scores_of_brute_force(store: Any) -> None:
    query = random(1, 8, 3)[0]
    found = store.embedding_retrieval(query.tolist(), top_k=6)
    assert ids(found) == expected(query, 6)
    rows = VECTORS[[int(each[1:]) for each in ids(found)]]
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    assert [each.score for each in found] == pytest.approx(cosines.tolist(), abs=1e-6)
    assert found[0].embedding is None and found[0].meta == documents()[int(found[0].id[1:])].meta
    assert store.embedding_retrieval(query, top_k=1, return_embedding=True)[0].embedding == rows[0].tolist()
    scaled = store.embedding_retrieval(query, top_k=6, scale_score=True)
    assert [each.score for each in scaled] == pytest.approx(((cosines + 1) / 2).tolist(), abs=1e-6)


FILTERS = [
    field("year", ">", 2020),
    field("year", ">=", 2020.5),
    field("year", "==", 2003),
    field("year", "!=", 2003),
    field("year", "==", None),
    field("year", "!=", None),
    field("year", "in", [2001, 2002]),
    field("year", "in", [2001, None]),
    field("year", "in", []),
    field("year", "not in", [2001, 2002]),
    field("year", "not in", [2001, None]),
    field("year", "<", None),
    field("year", "==", "2003"),
    field("lang", "in", ["de"]),
    field("lang", "!=", "de"),
    field("live", "==", True),
    field("live", "!=", True),
    field("deep.x", "<", 50),
    field("deep", "==", {"x": 5}),
    field("missing", "==", 5),
    {"field": "year", "operator": "<=", "value": 2002},
    {"field": "id", "operator": "in", "value": ["d5", "d8"]},
    {"field": "id", "operator": "in", "value": ["d5"]},
    {"field": "content", "operator": "==", "value": "the text of number 4, green"},
    {"operator": "AND", "conditions": [field("year", ">", 2010), field("lang", "==", "en")]},
    {"operator": "AND", "conditions": [field("year", ">", 2010), field("deep.x", "<", 120), field("lang", "!=", "en")]},
    {"operator": "OR", "conditions": [field("year", "==", 2010), field("lang", "==", "xx")]},
    {"operator": "NOT", "conditions": [field("year", ">", 2010), field("lang", "==", "en")]},
    {
        "operator": "AND",
        "conditions": [
            {"operator": "OR", "conditions": [field("year", "<", 2005), field("year", ">", 2020)]},
            {"operator": "NOT", "conditions": [field("live", "==", True)]},
            field("lang", "==", "de"),
        ],
    },
]


@pytest.mark.parametrize("filters", FILTERS)
def test_filters_mean_what_haystack_says_and_are_part_of_the_search(store: Any, filters: Any) -> None:
    query = random(1, 8, 4)[0]
    assert ids(store.embedding_retrieval(query, filters=filters, top_k=4)) == expected(query, 4, filters)
    matching = [each.id for each in documents() if document_matches_filter(filters, each)]
    assert ids(store.filter_documents(filters)) == matching
    assert store.count_documents_by_filter(filters) == len(matching)
    words = ids(store.bm25_retrieval("number red", filters=filters, top_k=1000))
    assert sorted(words) == sorted(matching)
    hybrid = store.hybrid_retrieval("red", query, filters=filters, top_k=1000)
    assert set(ids(hybrid)) <= set(matching)


def test_columns_answer_conditions_by_the_index() -> None:
    seen: List[str] = []
    store = IVFDocumentStore(columns={"year": "INTEGER"})
    store.write_documents(documents())
    store.connection.set_trace_callback(seen.append)
    store.embedding_retrieval(
        VECTORS[0], filters={"operator": "AND", "conditions": [field("year", ">", 2010), field("year", "!=", 2015)]}
    )
    store.connection.set_trace_callback(None)
    [search] = [sql for sql in seen if "MATCH" in sql]
    assert '"meta.year" > ' in search and '"meta.year" IS NOT ' in search and "json_extract" not in search
    store.close()


def test_dates_compare_as_instants() -> None:
    store = IVFDocumentStore()
    dates = ["2024-01-31", "2024-02-01T00:00:00", "2024-02-01T01:00:00+02:00", "2024-02-01T12:00:00Z", "no date", 5, "2024"]
    store.write_documents([Document(id=str(i), content="x", meta={"day": date}) for i, date in enumerate(dates)])
    assert ids(store.filter_documents(field("day", ">=", "2024-02-01"))) == ["1", "3"]
    assert ids(store.filter_documents(field("day", "<", datetime(2024, 2, 1)))) == ["0", "2"]
    store.close()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (field("year", "~", 1), r"meta.year ~: operator must be one of ==, !=, >, >=, <, <=, in, not in, got '~'"),
        (field("year", ">", "soon"), "meta.year >: a number or an ISO date is expected, got 'soon'"),
        (field("year", "in", 5), "meta.year in: a list is expected, got 5"),
        (field("year", "==", object), "a text, a number, True, False or None is expected, got <class 'object'>"),
        ({"field": "", "operator": "==", "value": 1}, "a name of a field is expected, such as 'meta.year', got ''"),
        ({"operator": "XOR", "conditions": []}, "operator must be one of AND, OR, NOT, got 'XOR'"),
        ({"operator": "AND", "conditions": {}}, "conditions must be a list, got {}"),
        ({"operator": "AND", "conditions": [5]}, "filters: AND: a dict is expected, got 5"),
        ({"operator": "AND", "conditions": [{"field": "x"}]}, "'operator' is missing in {'field': 'x'}"),
        ({"year": 5}, "'field', or 'operator' and 'conditions' are expected, got {'year': 5}"),
        (field('a"b', "==", 1), 'a key of meta without " and NUL is expected'),
    ],
)
def test_wrong_filters_are_errors_that_say_what_is_right(store: Any, filters: Any, message: str) -> None:
    for call in (store.filter_documents, lambda given: store.embedding_retrieval(VECTORS[0], filters=given)):
        with pytest.raises(FilterError, match=message.replace("{", r"\{")):
            call(filters)


def test_texts_are_found_by_words_and_by_both(store: Any) -> None:
    found = store.bm25_retrieval('What about "number" 17? (AND OR NEAR*', top_k=3)
    assert found[0].id == "d17" and found[0].score > found[1].score
    assert 0.5 < store.bm25_retrieval("17", top_k=1, scale_score=True)[0].score < 1
    assert store.bm25_retrieval("?!", top_k=3) == []
    both = store.hybrid_retrieval("17", VECTORS[30], top_k=2)
    assert set(ids(both)) == {"d17", "d30"}
    assert ids(store.hybrid_retrieval("17", VECTORS[30], top_k=2, weights=(1, 0)))[0] == "d30"
    assert ids(store.hybrid_retrieval("17", None, top_k=1)) == ["d17"]
    store.delete_documents(["d17"])
    assert store.bm25_retrieval("17") == []
    store.write_documents([Document(id="d18", content="seventeen")], policy=DuplicatePolicy.OVERWRITE)
    assert ids(store.bm25_retrieval("seventeen")) == ["d18"] and store.bm25_retrieval("18") == []


def test_without_words_or_embeddings_a_store_says_so() -> None:
    store = IVFDocumentStore(bm25=False)
    calls: List[Callable[[], Any]] = [lambda: store.bm25_retrieval("x"), lambda: store.hybrid_retrieval("x", [1, 0])]
    for call in calls:
        with pytest.raises(ValueError, match=r"words need the FTS5 table, which IVFDocumentStore\(table='documents', bm25=True\)"):
            call()
    assert store.embedding_retrieval([1, 0]) == [] and store.table is None
    store.write_documents([Document(content="a", embedding=[1.0, 0.0])])
    with pytest.raises(ValueError, match="words need the FTS5 table"):
        store.hybrid_retrieval("x", [1, 0])
    store.close()


def test_the_index_follows_the_documents(store: Any) -> None:
    query = VECTORS[5]
    assert ids(store.embedding_retrieval(query, top_k=1)) == ["d5"]
    store.write_documents([Document(id="d5", content="new", embedding=(-query).tolist())], policy=DuplicatePolicy.OVERWRITE)
    assert "d5" not in ids(store.embedding_retrieval(query, top_k=100))
    store.write_documents([Document(id="d5", content="none")], policy=DuplicatePolicy.OVERWRITE)
    assert "d5" not in ids(store.embedding_retrieval(query, top_k=1000))
    store.write_documents([Document(id="d6", content="now", embedding=query.tolist())], policy=DuplicatePolicy.OVERWRITE)
    assert ids(store.embedding_retrieval(query, top_k=1)) == ["d6"]
    assert store.update_by_filter(field("lang", "==", "xx"), {"year": 1900}) == 20
    assert len(store.embedding_retrieval(query, filters=field("year", "==", 1900), top_k=100)) == 17
    assert store.delete_by_filter(field("year", "==", 1900)) == 20
    assert store.embedding_retrieval(query, filters=field("year", "==", 1900)) == []
    assert ids(store.filter_documents())[:6] == ["d1", "d2", "d3", "d4", "d5", "d6"]  # what is written over keeps its place
    store.table.check()
    store.delete_all_documents()
    assert store.embedding_retrieval(query) == [] and store.bm25_retrieval("text") == []


def test_a_write_is_all_or_nothing(store: Any) -> None:
    new = Document(id="new", content="new", embedding=VECTORS[0].tolist())
    with pytest.raises(DuplicateDocumentError, match="ID 'd3' already exists"):
        store.write_documents([new, documents()[3]])
    with pytest.raises(ValueError, match="embedding_dim=3, but table 'documents' exists with embedding_dim=8"):
        store.write_documents([new, Document(id="other", embedding=[1.0, 2.0, 3.0])])
    with pytest.raises(Exception, match="zero vector"):
        store.write_documents([new, Document(id="other", embedding=[0.0] * 8)])
    with pytest.raises(ValueError, match="meta of document 'other': values are what JSON has"):
        store.write_documents([new, Document(id="other", meta={"x": datetime(2024, 1, 1)})])
    assert store.count_documents() == 200 and store.filter_documents({"field": "id", "operator": "==", "value": "new"}) == []
    twice = [new, Document(id="new", content="again")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(twice)
    assert store.write_documents(twice, policy=DuplicatePolicy.SKIP) == 1
    assert store.write_documents(twice, policy=DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents({"field": "id", "operator": "==", "value": "new"})[0].content == "again"


def test_a_value_that_is_not_of_its_column_is_an_error() -> None:
    store = IVFDocumentStore(columns={"year": "INTEGER"})
    store.write_documents([Document(content="a", meta={"year": 5}, embedding=[1.0, 0.0])])
    with pytest.raises(Exception, match="meta.year: an integer is expected, got 'soon'"):
        store.write_documents([Document(content="b", meta={"year": "soon"}, embedding=[1.0, 0.0])])
    assert store.count_documents() == 1
    store.close()


def test_everything_of_a_document_comes_back() -> None:
    store = IVFDocumentStore()
    blob = ByteStream(data=b"\x00\x01", meta={"a": 1}, mime_type="image/png")
    sparse = SparseEmbedding(indices=[1, 5], values=[0.5, 0.25])
    whole = Document(
        id="w", blob=blob, meta={"t": "ü\n", "n": None, "list": [1, {"b": True}]}, sparse_embedding=sparse, embedding=[0.5, 1]
    )
    store.write_documents([whole, Document(id="e", content="")])
    assert store.filter_documents() == [whole, Document(id="e", content="")]
    store.close()


def test_doubles_are_kept_if_asked_for() -> None:
    for doubles in (True, False):
        store = IVFDocumentStore(doubles=doubles)
        store.write_documents([Document(id="a", embedding=[0.1, 0.5]), Document(id="b", embedding=[0.25, 0.5])])
        one, two = store.filter_documents()
        assert (one.embedding == [0.1, 0.5]) is doubles and one.embedding == pytest.approx([0.1, 0.5])
        assert two.embedding == [0.25, 0.5]
        store.close()


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_metrics_and_their_scores(metric: str) -> None:
    store = IVFDocumentStore(metric=metric)
    store.write_documents(documents())
    query = random(1, 8, 9)[0]
    found = store.embedding_retrieval(query, top_k=5)
    assert ids(found) == expected(query, 5, None, metric)
    scores = [each.score for each in found]
    scaled = [each.score for each in store.embedding_retrieval(query, top_k=5, scale_score=True)]
    assert scores == sorted(scores, reverse=True) and scaled == sorted(scaled, reverse=True)
    assert all(0 < score < 1 for score in scaled)
    store.close()


def test_groups_and_settings(store: Any) -> None:
    if store.table.columns == ["embedding"]:
        with pytest.raises(ValueError, match=r"per must be one of the columns \(there are none\), got 'lang'"):
            store.embedding_retrieval(VECTORS[0], per="lang")
    else:
        assert len({each.meta["lang"] for each in store.embedding_retrieval(VECTORS[0], top_k=3, per="lang")}) == 3
        assert len(store.embedding_retrieval(VECTORS[0], top_k=3, per=("meta.lang", 2))) == 6
    assert len(store.embedding_retrieval(VECTORS[0], top_k=5, mmr=0.5)) == 5
    store.table.train(nlist=8)
    assert ids(store.embedding_retrieval(VECTORS[0], top_k=5, nprobe=-1)) == expected(VECTORS[0], 5)
    with pytest.raises(TypeError, match="unknown argument 'probes', expected one of nprobe"):
        store.embedding_retrieval(VECTORS[0], probes=5)
    with pytest.raises(ValueError, match="query_embedding: 8 dimensions are expected, got 3"):
        store.embedding_retrieval([1, 2, 3])


def test_a_file_is_opened_again_and_what_is_said_must_be_true(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = IVFDocumentStore(path, columns={"year": "INTEGER"}, metric="l2", model="small", nlist=4, tokenize="porter")
    store.write_documents(documents())
    store.close()
    again = IVFDocumentStore(path, model="small")
    assert again.filter_documents() == documents()
    query = random(1, 8, 10)[0]
    filters = field("year", ">", 2010)
    assert ids(again.embedding_retrieval(query, filters=filters)) == expected(query, 10, filters, "l2")
    assert len(again.bm25_retrieval("texts", top_k=1000)) == 200
    again.close()
    for arguments, message in (
        ({"metric": "cosine", "embedding_dim": 8}, "metric='cosine', but table 'documents' exists with metric='l2'"),
        ({"embedding_dim": 9}, "embedding_dim=9, but table 'documents' exists with embedding_dim=8"),
        ({"columns": {"year": "TEXT"}}, "columns={'year': 'TEXT'}, but table 'documents' exists with columns={'year': 'INTEGER'}"),
        ({"model": "large", "embedding_dim": 8}, "is of model 'small', got 'large'"),
        ({"metric": "dot"}, "metric must be one of cosine, l2, ip, got 'dot'"),
        ({"columns": {"year": "DATE"}}, "columns: the type of 'year' must be one of INTEGER, FLOAT, TEXT, BOOLEAN"),
        ({"nlists": 5}, "unknown argument 'nlists', expected one of nprobe"),
    ):
        with pytest.raises(Exception, match=message.replace("{", r"\{").replace("}", r"\}")):
            IVFDocumentStore(path, **arguments)


def test_partitions_are_kept_before_the_first_embedding(tmp_path: Path) -> None:
    columns = {"lang": "text partition key", "user": "INTEGER PARTITION KEY", "year": "INTEGER"}
    IVFDocumentStore(tmp_path / "a.db", columns=columns).close()
    IVFDocumentStore(tmp_path / "a.db", columns=columns).close()
    store = IVFDocumentStore(tmp_path / "a.db")
    store.write_documents([Document(content="x", meta={"lang": "en", "user": i}, embedding=[1.0, i]) for i in range(4)])
    partitions = store.connection.execute("SELECT key FROM ivf_partitions('documents_near') ORDER BY 1").fetchall()
    assert partitions == [(f'["en",{i}]',) for i in range(4)]
    assert store.embedding_retrieval([1, 0], filters=field("user", "==", 3))[0].meta == {"lang": "en", "user": 3}
    store.close()


def test_metadata_is_described(store: Any) -> None:
    info = store.get_metadata_fields_info()
    assert info == {"year": {"type": "int"}, "lang": {"type": "keyword"}, "live": {"type": "boolean"}, "deep": {"type": "keyword"}}
    assert store.get_metadata_field_min_max("meta.year") == {"min": 2000, "max": 2024}
    assert store.get_metadata_field_min_max("lang") == {"min": "de", "max": "xx"}
    assert store.get_metadata_field_unique_values("live") == ([False, True], 2)
    assert store.get_metadata_field_unique_values("year", size=2, from_=1) == ([2001, 2002], 25)
    assert store.get_metadata_field_unique_values("deep", size=None)[0].count({"x": 1}) == 1
    assert store.count_unique_metadata_by_filter({}, ["lang", "live"]) == {"lang": 3, "live": 2}


def test_threads_and_the_async_methods(store: Any) -> None:
    wanted = expected(VECTORS[3], 5)
    found: List[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ids(store.embedding_retrieval(VECTORS[3], top_k=5)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4

    async def main() -> None:
        assert ids(await store.embedding_retrieval_async(VECTORS[3], top_k=5)) == wanted
        assert len(await store.bm25_retrieval_async("red", top_k=3)) == 3
        assert len(await store.hybrid_retrieval_async("red", VECTORS[3], top_k=3)) == 3
        assert ids((await IVFEmbeddingRetriever(store, top_k=5).run_async(VECTORS[3]))["documents"]) == wanted
        assert len((await IVFBM25Retriever(store, top_k=5).run_async("red"))["documents"]) == 5
        assert len((await IVFHybridRetriever(store, top_k=5).run_async("red", VECTORS[3]))["documents"]) == 5

    asyncio.run(main())


def test_pipelines_run_and_are_saved(tmp_path: Path) -> None:
    store = IVFDocumentStore(tmp_path / "a.db", columns={"year": "INTEGER"}, embedding_dim=8, train_at="off")
    store.write_documents(documents())
    pipeline = Pipeline()
    pipeline.add_component("near", IVFEmbeddingRetriever(store, top_k=3, filters=field("year", ">", 2010), options={"nprobe": -1}))
    pipeline.add_component("words", IVFBM25Retriever(store, top_k=2))
    pipeline.add_component("both", IVFHybridRetriever(store, filter_policy=FilterPolicy.MERGE, filters=field("lang", "==", "de")))
    asked: Dict[str, Any] = {
        "near": {"query_embedding": VECTORS[3].tolist()},
        "words": {"query": "blue 17"},
        "both": {"query": "blue", "query_embedding": VECTORS[3].tolist(), "filters": field("year", ">", 2010), "top_k": 4},
    }
    answers = pipeline.run(asked)
    assert ids(answers["near"]["documents"]) == expected(VECTORS[3], 3, field("year", ">", 2010))
    assert answers["words"]["documents"][0].id == "d17"
    assert len(answers["both"]["documents"]) == 4
    assert all(each.meta["lang"] == "de" and each.meta["year"] > 2010 for each in answers["both"]["documents"])
    # Newer versions of Haystack ask which modules may be loaded.
    trusted = {"allowed_modules": ["sqlite_ivf.haystack"]} if "allowed_modules" in signature(Pipeline.loads).parameters else {}
    again = Pipeline.loads(pipeline.dumps(), **trusted)
    assert again.dumps() == pipeline.dumps()
    assert again.run(asked) == answers
    assert again.get_component("both").filter_policy is FilterPolicy.MERGE
    again.get_component("near").document_store.close()
    store.close()


def test_retrievers_check_what_they_are_given() -> None:
    store = IVFDocumentStore()
    with pytest.raises(TypeError, match="document_store: an IVFDocumentStore is expected, got str"):
        IVFEmbeddingRetriever("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top_k must be a whole number from 1 to 9223372036854775807, got 0"):
        IVFBM25Retriever(store, top_k=0)
    assert IVFDocumentStore.from_dict(store.to_dict()).to_dict() == store.to_dict()
    store.close()


def test_a_missing_haystack_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "haystack", None)
    monkeypatch.delitem(sys.modules, "sqlite_ivf.haystack")
    with pytest.raises(ImportError, match=r"sqlite_ivf.haystack needs haystack-ai .*sqlite-ivf\[haystack\]"):
        __import__("sqlite_ivf.haystack")


def test_a_filter_has_any_number_of_conditions(store: Any) -> None:
    query = random(1, 8, 3)[0]
    for n in [*range(1, 21), 40, 60]:
        out = [*range(2000, 2000 + min(n, 20)), *range(3000, 3000 + n - min(n, 20))]
        for each in ([field("year", "!=", year) for year in out], [field("year", ">=", 1990 + i // 4) for i in range(n)]):
            for conditions in (each, [*each, field("deep.x", "<", 150)]):
                filters = {"operator": "AND", "conditions": conditions}
                found = store.embedding_retrieval(query.tolist(), filters=filters, top_k=9, nprobe=-1)
                assert ids(found) == expected(query, 9, filters), filters
                assert store.embedding_retrieval(query.tolist(), filters=filters, mmr=0.5)
                mixed = store.hybrid_retrieval("red", query.tolist(), filters=filters, top_k=200)
                assert mixed and all(document_matches_filter(filters, document) for document in mixed)


@pytest.mark.parametrize("columns", [None, {"d": "TEXT"}])
def test_dates_are_equal_as_instants(columns: Any) -> None:
    store = IVFDocumentStore(columns=columns)
    days = ["2020-01-01T00:00:00Z", "2021-01-01", "2020-01-01", "soon", None]
    store.write_documents([Document(id=str(i), meta={"d": day}, embedding=[1.0, i]) for i, day in enumerate(days)])
    for given in ("2020-01-01T00:00:00+00:00", "2020-01-01 02:00:00+02:00", datetime(2020, 1, 1)):
        for operator, value, found in [
            ("==", given, ["0", "2"]),
            ("!=", given, ["1", "3", "4"]),
            ("in", [given], ["0", "2"]),
            ("in", ["soon", given, None], ["0", "2", "3", "4"]),
            ("not in", [given], ["1", "3", "4"]),
            ("not in", ["soon", given], ["1", "4"]),
        ]:
            filters = field("d", operator, value)
            assert ids(store.filter_documents(filters)) == found
            assert sorted(ids(store.embedding_retrieval([1, 0], filters=filters))) == found
    store.close()


def test_true_and_false_are_ordered_as_numbers(store: Any) -> None:
    for operator, value in [(">", -1), (">", 0), (">=", True), ("<", 0.5), ("<=", False)]:
        filters = field("live", operator, value)
        assert ids(store.filter_documents(filters)) == [d.id for d in documents() if document_matches_filter(filters, d)]
        assert ids(store.embedding_retrieval(VECTORS[0], filters=filters)) == expected(VECTORS[0], 10, filters)


def test_top_k_is_a_whole_number_from_1_or_the_default(store: Any) -> None:
    calls: List[Callable[[Any], Any]] = [
        lambda k: store.embedding_retrieval(VECTORS[0], top_k=k),
        lambda k: store.bm25_retrieval("number", top_k=k),
        lambda k: store.hybrid_retrieval("number", VECTORS[0], top_k=k),
        lambda k: store.hybrid_retrieval("number", None, top_k=k),
    ]
    for call in calls:
        assert len(call(None)) == 10 and len(call(np.int64(3))) == 3
        for k in (0, -1, 1.5, "3", True, 2**63):
            with pytest.raises(ValueError, match=f"top_k must be a whole number from 1 to 9223372036854775807, got {k!r}"):
                call(k)
    with pytest.raises(ValueError, match="a whole number of 64 bits is expected, got 9223372036854775808"):
        store.hybrid_retrieval("number", VECTORS[0], candidates=2**63)
    for operator in ("==", ">"):
        with pytest.raises(FilterError, match=f"meta.year {operator}: .*, got 9223372036854775808"):
            store.filter_documents(field("year", operator, 2**63))


def test_what_is_said_of_a_store_that_exists_is_true_of_it(tmp_path: Path) -> None:
    given: Dict[str, Any] = {"embedding_dim": 2, "tokenize": "porter", "nlist": 4, "train_at": "off"}
    IVFDocumentStore(tmp_path / "s.db", **given).close()
    IVFDocumentStore(tmp_path / "s.db").close()
    IVFDocumentStore(tmp_path / "s.db", **given).close()
    IVFDocumentStore(tmp_path / "s.db", doubles=True, nlist=4, bm25=True).close()
    IVFDocumentStore(tmp_path / "s.db", table="plain", bm25=False).close()
    wrong: List[Any] = [{"nlist": 5}, {"nprobe": 3}, {"tokenize": "ascii"}, {"bm25": False}]
    wrong.append({"table": "plain", "tokenize": "ascii"})
    for each in wrong:
        name, value = list(each.items())[-1]
        with pytest.raises(ValueError, match=f"{name}={value!r}, but table '(documents|plain)' exists"):
            IVFDocumentStore(tmp_path / "s.db", **each)
    with pytest.raises(ValueError, match="tokenize='ascii' is for bm25=True, got bm25=False"):
        IVFDocumentStore(bm25=False, tokenize="ascii")
