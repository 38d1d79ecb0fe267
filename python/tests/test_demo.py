from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

import demo_data
from conftest import nearest, random
from sqlite_ivf import Table, connect
from sqlite_ivf.demo import Demo, Server, data, opened

CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
QUERIES = range(5, 4400, 131)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with opened() as demo:
        yield demo


@pytest.fixture(scope="module")
def rows() -> List[Any]:
    return list(data.rows())


@pytest.fixture(scope="module")
def matrix(rows: List[Any]) -> NDArray[Any]:
    return np.array([np.frombuffer(row[1], np.int8) for row in rows], np.float64)


def ids(answer: Dict[str, Any]) -> List[Any]:
    return [each["row"] for each in answer["answers"]]


def exactly(rows: List[Any], matrix: NDArray[Any], row: int, k: int, passes: Any = lambda row: True) -> List[int]:
    among = np.array([each[0] for each in rows if each[0] != row and passes(each)], int)
    return [int(among[i]) for i in nearest(matrix[among - 1], matrix[row - 1], k, "cosine")]


@contextmanager
def served(demo: Demo, **options: Any) -> Iterator[Server]:
    with Server(demo, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def http_(server: Server, path: str, body: Any = None, **headers: str) -> Tuple[int, Any, Any]:
    """Status, answer, headers."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)) as connection:
        sent = {"Content-Type": "application/json", **headers} if body is not None else headers
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, text, sent)
        response = connection.getresponse()
        answer = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(answer) if is_json else answer.decode(), response.headers


# The bundled texts.


def test_the_bundled_texts_are_those_of_the_fixture_and_their_embeddings_rounded() -> None:
    if not demo_data.FIXTURE.exists():
        pytest.skip("the fixture is in the source tree only")
    lines, numbers = demo_data.rounded()
    texts, vectors = data.texts_and_vectors()
    assert texts == lines.decode().splitlines() and vectors == numbers.tobytes()
    assert data.FILE.stat().st_size < 900_000


def test_the_rounding_keeps_nearly_all_neighbours(matrix: NDArray[Any]) -> None:
    if not demo_data.FIXTURE.exists():
        pytest.skip("the fixture is in the source tree only")
    full = np.fromfile(demo_data.FIXTURE / "debian-packages.f16", "<f2").reshape(-1, data.DIM)
    kept = [len({*nearest(full, full[i], 11, "cosine")} & {*nearest(matrix, matrix[i], 11, "cosine")}) for i in QUERIES]
    assert np.mean(kept) / 11 > 0.93


# Searches.


def test_an_answer_is_that_of_brute_force_and_so_is_its_recall(demo: Demo, rows: List[Any], matrix: NDArray[Any]) -> None:
    recalls = []
    for row in QUERIES:
        wanted = exactly(rows, matrix, row, 10)
        assert ids(demo.search({"row": row, "recall": 1})) == wanted
        answer = demo.search({"row": row, "recall": 0.8})
        assert answer["recall"] == pytest.approx(len({*wanted} & {*ids(answer)}) / 10)
        assert [each["row"] for each in answer["missed"]] == [each for each in wanted if each not in ids(answer)]
        assert [each["exact"] for each in answer["answers"]] == [each in wanted for each in ids(answer)]
        for each in answer["answers"]:
            assert each["text"] == rows[each["row"] - 1][-1]
            assert each["values"]["subject"] == rows[each["row"] - 1][2] and each["values"]["words"] == rows[each["row"] - 1][4]
        recalls.append(answer["recall"])
    assert 0.65 < np.mean(recalls) < 0.95


FILTERS: List[Tuple[Dict[str, Any], Any]] = [
    ({"subject": ["games"]}, lambda row: row[2] == "games"),
    ({"subject": ["games", "science"]}, lambda row: row[2] in ("games", "science")),
    ({"subject": [None]}, lambda row: row[2] is None),
    ({"subject": [], "interface": ["web"]}, lambda row: row[3] == "web"),
    ({"words": {"min": 4, "max": 6}}, lambda row: 4 <= row[4] <= 6),
    ({"words": {"min": 14}}, lambda row: row[4] >= 14),
    ({"words": {"max": 2.5}, "subject": ["games"]}, lambda row: row[4] <= 2.5 and row[2] == "games"),
    ({"family": ["gnome"]}, lambda row: row[5] == "gnome"),
    ({"words": {}}, lambda row: True),
    ({"subject": ['it\'s "none"']}, lambda row: False),
]


@pytest.mark.parametrize(("where", "passes"), FILTERS)
def test_filters_are_inside_the_search(demo: Demo, rows: List[Any], matrix: NDArray[Any], where: Any, passes: Any) -> None:
    for row in QUERIES[::6]:
        wanted = exactly(rows, matrix, row, 10, passes)
        assert ids(demo.search({"row": row, "recall": 1, "where": where})) == wanted
        answer = demo.search({"row": row, "recall": 0.9, "where": where})
        assert len(answer["answers"]) == len(wanted)  # k rows match, k rows come back
        assert answer["rows"]["matching"] == sum(map(passes, rows))
        if answer["answers"]:
            assert answer["recall"] == pytest.approx(len({*wanted} & {*ids(answer)}) / len(wanted))
        else:
            assert answer["recall"] is None


def test_the_probed_lists_are_those_whose_rows_were_scanned(demo: Demo, matrix: NDArray[Any]) -> None:
    sizes = dict(demo.connection.execute("SELECT list_no, rows FROM ivf_lists('packages')").fetchall())
    stored = demo.connection.execute("SELECT list_no, centroid FROM ivf_centroids('packages') ORDER BY list_no").fetchall()
    centroids = np.array([np.frombuffer(blob, np.float32) for _, blob in stored], np.float64)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    shown = there = 0
    for row in QUERIES:
        order = nearest(centroids, unit[row - 1], len(centroids))
        for asked in (
            {"recall": 0.6},
            {"recall": 0.95},
            {"recall": 0.9, "mmr": 0.5},
            {"recall": 0.9, "per": "family"},
            {"nprobe": 5},
        ):
            answer = demo.search({"row": row, **asked})
            lists = answer["lists"]
            assert lists["order"] == order and 1 <= lists["probed"] <= lists["of"] == 64
            assert sum(sizes[each] for each in order[: lists["probed"]]) == answer["rows"]["scanned"]
            assert asked.get("nprobe", lists["probed"]) == lists["probed"]
            for name, known in (("found", ids(answer)), ("missed", [each["row"] for each in answer["missed"]])):
                places = [order.index(nearest(centroids, unit[each - 1], 1)[0]) for each in known]
                kept = [place for place in places if (place < lists["probed"]) == (name == "found")]
                assert lists[name] == {place: kept.count(place) for place in kept}
                shown, there = shown + len(kept), there + len(places)
    # With `mmr`, an answer may be missed in a list that was probed.
    assert shown >= 0.98 * there


def test_a_hybrid_score_is_the_sum_of_what_its_sides_give(demo: Demo, rows: List[Any]) -> None:
    for words in (0, 0.123, 1):
        answer = demo.search({"row": 1414, "text": "chess engine", "hybrid": True, "words": words, "where": {"subject": ["games"]}})
        assert answer["words"] == "chess engine" and answer["answers"] and answer["rows"]["matching"] == 487
        for each in answer["answers"]:
            assert each["score"] == pytest.approx(each["vec_part"] + each["fts_part"])
            assert each["values"]["subject"] == "games" and each["row"] != 1414
            said = re.search("chess|engine", rows[each["row"] - 1][-1], re.IGNORECASE)
            assert (each["fts_rank"] is not None) == bool(said) or words != 1
        best = [each["vec_rank" if words == 0 else "fts_rank"] for each in answer["answers"]]
        assert words not in (0, 1) or best == [*range(1, 11)]
    # Without words of its own, those of the row.
    assert demo.search({"row": 1414, "hybrid": True})["words"] == rows[1413][-1]


ASKED: List[Dict[str, Any]] = [
    {"row": 7},
    {"row": 7, "recall": 0.8, "k": 3, "where": {"subject": ["games", "it's"], "words": {"min": 3.5}}},
    {"row": 7, "nprobe": 4, "per": "family", "mmr": 0.25},
    {"row": 7, "where": {"interface": [None]}},
    {"row": 7, "hybrid": True, "text": 'it\'s "quoted" -- strategy?', "recall": 0.9, "words": 0.35},
    {"row": 7, "hybrid": True, "text": "war", "where": {"subject": ["games", "it's"], "words": {"max": 9}}},
]


@pytest.mark.parametrize("asked", ASKED)
def test_the_statement_that_is_shown_gives_the_answer_by_itself(demo: Demo, asked: Dict[str, Any]) -> None:
    answer = demo.search(asked)
    with closing(connect(demo.file)) as db:
        assert [row[0] for row in db.execute(answer["sql"].rstrip(";"))] == ids(answer) != []


def test_a_search_says_its_microseconds(demo: Demo) -> None:
    us = demo.search({"row": 7})["us"]
    assert all(0 < us[name] < 60e6 for name in ("search", "exact", "statement", "exact_statement"))


def test_the_curve_is_what_searches_reach(demo: Demo, rows: List[Any], matrix: NDArray[Any]) -> None:
    curve = demo.curve()
    assert curve is demo.curve() and [point["rows"] for point in curve] == sorted(point["rows"] for point in curve)
    assert curve[-1] == {"target": 1.0, "recall": 1.0, "rows": 4400}
    sample = demo._sample(100)
    assert len(sample) == 100
    found = [demo.search({"row": row, "recall": 0.8}) for row in sample]
    at = next(point for point in curve if point["target"] == 0.8)
    assert at["recall"] == pytest.approx(np.mean([answer["recall"] for answer in found]))
    assert at["rows"] == pytest.approx(np.mean([answer["rows"]["scanned"] for answer in found]))


def test_typed_words_find_stored_texts_by_prefixes(demo: Demo, rows: List[Any]) -> None:
    for text, words in (
        ("chess pro", ["chess", "pro"]),
        ("CHESS", ["chess"]),
        ("g", ["g"]),
        ("real-time strat", ["real", "time", "strat"]),
    ):
        found = demo.suggest(text)
        assert found and len(found) <= 8
        for each in found:
            tokens = re.findall(r"\w+", each["text"].lower())
            assert each["text"] == rows[each["row"] - 1][-1]
            assert all(word in tokens for word in words[:-1]) and any(token.startswith(words[-1]) for token in tokens)
    assert demo.suggest(rows[99][-1])[0]["row"] == 100
    # No text has all of them: those with some.
    assert "chess" in demo.suggest("chess zebra xylophone")[0]["text"].lower()
    for text in ("", " ", '"', "AND OR NOT", "NEAR(", "*", "'; DROP TABLE packages", "\x00", "😀", "a" * 3000):
        assert isinstance(demo.suggest(text), list)


WRONG: List[Tuple[Any, str]] = [
    ([], "a JSON object is expected"),
    ({}, "row: the number of a row is expected"),
    ({"row": 4401}, "row: packages has no row 4401"),
    ({"row": "x"}, 'row: a whole number from -9.22337e+18 to 9.22337e+18 is expected, got "x"'),
    ({"row": True}, "row: a whole number"),
    ({"row": 1, "k": 0}, "k: a whole number from 1 to 100 is expected, got 0"),
    ({"row": 1, "k": 1.5}, "k: a whole number from 1 to 100 is expected, got 1.5"),
    ({"row": 1, "recall": 1.5}, "recall: a number from 0.01 to 1 is expected, got 1.5"),
    ({"row": 1, "nprobe": 65}, "nprobe: a whole number from -1 to 64 is expected, got 65"),
    ({"row": 1, "mmr": -1}, "mmr: a number from 0 to 1"),
    ({"row": 1, "words": "much"}, "words: a number from 0 to 1"),
    ({"row": 1, "text": 5}, "text: a text of at most 10,000 characters"),
    ({"row": 1, "per": "text"}, 'per: one of subject, interface, words, family is expected, got "text"'),
    ({"row": 1, "where": ["subject"]}, "where: an object of columns"),
    ({"row": 1, "where": {"1=1 --": ["x"]}}, 'where: one of subject, interface, words, family is expected, got "1=1 --"'),
    ({"row": 1, "where": {"words": "3"}}, "where.words: a list of values, [null] alone, or"),
    ({"row": 1, "where": {"words": [None, 3]}}, "where.words: a list of values, [null] alone, or"),
    ({"row": 1, "where": {"words": {"min": "3"}}}, "where.words: a number"),
    ({"row": 1, "where": {"words": [[3]]}}, "where.words: a list of values"),
    ({"row": 1, "hybrid": True, "per": "family"}, "hybrid: per and mmr are for searches by vector alone"),
    ({"row": 1, "hybrid": 1}, "hybrid: true or false is expected, got 1"),
    ({"row": 1, "nprob": 3}, "unknown member 'nprob', expected some of row, text, k"),
    ({"row": 1, "nprobe": 0}, "nprobe: a number of lists, or -1 for all, is expected, got 0"),
    ({"row": 1, "per": []}, "per: one of "),
    ({"row": 1, "where": {"subject": [1 << 64]}}, "where.subject: a list of values"),
]


@pytest.mark.parametrize(("asked", "words"), WRONG)
def test_a_wrong_request_is_told_what_is_expected(demo: Demo, asked: Any, words: str) -> None:
    with served(demo) as server:
        status, answer, _ = http_(server, "/api/search", asked)
        assert status == 400 and words in answer["error"]


# Tables of others.

COLUMNS = {"year": "INTEGER", "lang": "TEXT", "live": "BOOLEAN", "+title": "TEXT"}


def filled(path: Path, n: int = 1500, **options: Any) -> NDArray[Any]:
    """A table of 8 dimensions in 20 lists, rowids from 1; the vectors as they are stored."""
    with closing(connect(str(path))) as db:
        kinds = options.pop("columns", COLUMNS)
        train = options.pop("train", True)
        table = Table.create(db, "items", 8, columns=kinds, **options)
        given = random(n, 8) * 20
        vectors = (given > 0) if table.element == "bit" else given.round()
        values = {"year": [2000 + i % 40 for i in range(n)], "lang": [["en", "de", None][i % 3] for i in range(n)]}
        values = {**values, "live": [i % 2 for i in range(n)], "title": [f"<b>{i}</b> & co" for i in range(n)]}
        table.add(vectors, range(1, n + 1), {name.lstrip("+"): values[name.lstrip("+")] for name in kinds})
        if train:
            table.train(nlist=20)
        return np.asarray(vectors, np.float64)


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip", "l1"])
@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16", "int8"])
def test_tables_of_all_kinds_are_searched(tmp_path: Path, metric: str, element: str) -> None:
    vectors = filled(tmp_path / "items.db", metric=metric, element=element)
    before = (tmp_path / "items.db").read_bytes()
    with opened(str(tmp_path / "items.db")) as demo:
        said = demo.describe()
        assert (said["table"], said["metric"], said["element"], said["setting"]) == ("items", metric, element, "recall_target")
        assert [facet["column"] for facet in said["facets"]] == ["year", "lang", "live"] and said["texts"] is None
        for row in (3, 700, 1500):
            others = np.delete(np.arange(1500), row - 1)
            wanted = [int(others[i]) + 1 for i in nearest(vectors[others], vectors[row - 1], 10, metric)]
            assert {*ids(demo.search({"row": row, "nprobe": -1}))} == {*wanted}
            german = others[others % 3 == 1]
            wanted = [int(german[i]) + 1 for i in nearest(vectors[german], vectors[row - 1], 10, metric)]
            assert {*ids(demo.search({"row": row, "nprobe": -1, "where": {"lang": ["de"]}}))} == {*wanted}
            answer = demo.search({"row": row, "recall": 0.8})
            assert answer["lists"]["order"] is not None and answer["lists"]["found"]
            assert answer["answers"][0]["text"].endswith("</b> & co")
        assert demo.curve()[-1]["recall"] == 1
        with pytest.raises(Exception, match="readonly|read-only"):
            demo.connection.execute("DELETE FROM items").fetchall()
    assert (tmp_path / "items.db").read_bytes() == before


def test_bits_partitions_and_untrained_tables_show_what_is_known(tmp_path: Path) -> None:
    filled(tmp_path / "bits.db", element="bit", metric="hamming")
    with opened(str(tmp_path / "bits.db"), "items") as demo:
        answer = demo.search({"row": 5, "recall": 0.9})
        assert answer["answers"] and answer["lists"]["order"] is None and answer["lists"]["probed"] >= 1
    filled(tmp_path / "parts.db", columns={"lang": "TEXT PARTITION KEY", "+title": "TEXT"})
    with opened(str(tmp_path / "parts.db")) as demo:
        assert demo.describe()["setting"] == "nprobe" and demo.curve() == []
        answer = demo.search({"row": 5, "nprobe": 2, "where": {"lang": ["de"]}, "per": "lang"})
        assert len(answer["answers"]) == 1 and answer["answers"][0]["values"] == {"lang": "de"}
        answer = demo.search({"row": 5, "nprobe": 2, "where": {"lang": ["xx"]}})
        assert (answer["answers"], answer["rows"]["scanned"], answer["lists"]["probed"]) == ([], 0, 0)
    vectors = filled(tmp_path / "new.db", train=False)
    with opened(str(tmp_path / "new.db")) as demo:
        assert demo.describe()["setting"] is None and demo.describe()["lists"] == []
        answer = demo.search({"row": 5})
        assert answer["recall"] == 1 and answer["rows"]["scanned"] == 1500 and answer["lists"]["of"] == 0
        assert ids(answer) == [i + 1 for i in nearest(vectors, vectors[4], 11) if i != 4]


def test_names_of_every_kind_and_large_rowids_work(tmp_path: Path) -> None:
    file = str(tmp_path / "odd.db")
    with closing(connect(file)) as db:
        table = Table.create(
            db, 'my "t"?', 2, column="v?", columns={"nprobe": "INTEGER", "recall_target": "TEXT", "+the ?text": "TEXT"}
        )
        rows = random(40, 2)
        large = [2**60 + i for i in range(40)]
        table.add(
            rows,
            large,
            {"nprobe": [i % 2 for i in range(40)], "recall_target": ["a", "b"] * 20, "the ?text": [f"t{i}" for i in range(40)]},
        )
        with db:
            db.execute('CREATE VIRTUAL TABLE "my ""t""?_fts" USING fts5(body)')
            db.executemany('INSERT INTO "my ""t""?_fts"(rowid, body) VALUES (?, ?)', [(i, f"word{i - 2**60}") for i in large])
    with opened(file) as demo:
        answer = demo.search({"row": str(large[3]), "recall": 0.9, "where": {"nprobe": [1], "recall_target": ["b"]}})
        wanted = [i for i in nearest(rows, rows[3], 40) if i % 2 and i != 3][:10]
        assert ids(answer) == [str(large[i]) for i in wanted] and answer["query"] == {"row": str(large[3]), "text": "t3"}
        assert demo.suggest("word17") == [{"row": str(large[17]), "text": "t17"}]
        found = demo.search({"row": large[3], "hybrid": True, "text": "word17", "where": {"nprobe": [1]}})
        assert str(large[17]) in ids(found)
        for shown in (answer["sql"], found["sql"]):
            assert demo.connection.execute(shown.rstrip(";")).fetchall()


def test_the_texts_of_rows_are_found_where_they_are(tmp_path: Path) -> None:
    file = str(tmp_path / "docs.db")
    db: Any = connect(file)
    with db:
        db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, note TEXT, vec BLOB)")
        db.executemany(
            "INSERT INTO docs VALUES (?, ?, ?, ?)",
            [(i, f"title {i}", f"note {i}", row.tobytes()) for i, row in enumerate(random(50, 4))],
        )
        db.execute("CREATE VIRTUAL TABLE near USING ivf(vec float[4], content='docs', content_rowid='id')")
        db.execute("INSERT INTO near(near) VALUES ('rebuild')")
        db.execute("CREATE VIRTUAL TABLE words USING fts5(body)")
        db.execute("INSERT INTO words(rowid, body) SELECT id, 'body ' || id FROM docs")
        db.execute("CREATE VIRTUAL TABLE bare USING ivf(id TEXT PRIMARY KEY, vec float[4])")
        db.execute("INSERT INTO bare(id, vec) SELECT 'k' || id, vec FROM docs")
    db.close()
    for options, text in (
        ({}, "title 7"),
        ({"label": "note"}, "note 7"),
        ({"label": "docs.note"}, "note 7"),
        ({"label": "words.body", "texts": "words"}, "body 7"),
    ):
        with opened(file, "near", **options) as demo:
            assert demo.search({"row": 7})["query"]["text"] == text
            assert (7, text) in [(each["row"], each["text"]) for each in demo.suggest(text)]
    with opened(file, "bare", texts="words") as demo:
        assert demo.search({"row": 8})["query"]["text"] == "body 8"
    with opened(file, "bare") as demo:
        assert demo.search({"row": 8})["query"]["text"] == "row 8" and demo.suggest("8") == [{"row": 8, "text": "row 8"}]
        assert demo.suggest("99") == demo.suggest("word") == []


def test_an_index_of_a_view_has_texts_and_suggestions(tmp_path: Path) -> None:
    file = str(tmp_path / "docs.db")
    db: Any = connect(file)
    with db:
        db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, number INTEGER UNIQUE, title TEXT, vec BLOB)")
        db.executemany(
            "INSERT INTO docs VALUES (?, ?, ?, ?)",
            [(i + 1, 100 - i, f"title {i}", row.tobytes() if i != 8 else None) for i, row in enumerate(random(50, 4))],
        )
        db.execute("CREATE VIEW shown AS SELECT number, title, vec FROM docs")
        for name, content in (("near", "docs"), ("near_view", "Shown")):
            db.execute(f"CREATE VIRTUAL TABLE {name} USING ivf(vec float[4], content='{content}', content_rowid='number')")
            db.execute(f"INSERT INTO {name}({name}) VALUES ('rebuild')")
    db.close()
    for name in ("near", "near_view"):
        with opened(file, name) as demo:
            assert demo.search({"row": 93})["query"]["text"] == "title 7"
            assert all(each["text"] == f"title {100 - each['row']}" for each in demo.search({"row": 93})["answers"])
            assert demo.suggest("title 7") == [{"row": 93, "text": "title 7"}]
            assert demo.suggest("title 8") == [], "a row without a vector is not in the index"
            assert len(demo.suggest("title")) == 8


def test_a_text_is_the_query_where_a_function_embeds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = filled(tmp_path / "items.db", element="float32")
    Path("models_of_test.py").write_text(
        "import array\n"
        "class Model:\n"
        "    def encode(self, text):\n"
        "        return [float(text)] * 8\n"
        "    def blob(self, text):\n"
        "        return array.array('f', [float(text)] * 8).tobytes()\n"
        "    def short(self, text):\n"
        "        return [1.0]\n"
        "model, number = Model(), 5\n"
    )
    for name in ("encode", "blob"):
        with opened("items.db", embed=f"models_of_test:model.{name}") as demo:
            answer = demo.search({"text": "3.5", "nprobe": -1})
            assert ids(answer) == [i + 1 for i in nearest(vectors, np.full(8, 3.5), 10)]
            assert answer["query"] == {"row": None, "text": "3.5"} and answer["lists"]["probed"] == 20
            assert [row[0] for row in demo.connection.execute(answer["sql"].rstrip(";"))] == ids(answer)
    with opened("items.db", embed="models_of_test:model.short") as demo, pytest.raises(ValueError, match="a vector of 8 elements"):
        demo.search({"text": "1"})
    for name, words in (("models_of_test", "module:function is expected"), ("models_of_test:number", "is no function")):
        with pytest.raises(ValueError, match=words), opened("items.db", embed=name):
            pass
    with opened(embed="models_of_test:model.encode") as demo, pytest.raises(ValueError, match="a vector of 384 elements"):
        demo.search({"text": "0.5"})


# The server.


def test_other_names_of_the_host_are_refused(demo: Demo) -> None:
    with served(demo) as server:
        port = server.server_address[1]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
            assert http_(server, "/api/table", Host=host)[0] == 200
        for host in (
            "evil.example",
            f"evil.example:{port}",
            f"127.0.0.1.evil.example:{port}",
            "192.168.1.7",
            "[",
            "localhost.evil.example",
            "",
        ):
            for path, body in (("/", None), ("/api/table", None), ("/api/search", {"row": 1})):
                status, answer, _ = http_(server, path, body, Host=host)
                assert status == 403 and "is not this server" in answer["error"]


def test_requests_of_other_shapes_are_refused(demo: Demo) -> None:
    with served(demo) as server:
        assert http_(server, "/api/search", {"row": 1}, **{"Content-Type": "text/plain"})[0] == 415
        assert http_(server, "/api/search")[0] == 405
        assert http_(server, "/nothing")[0] == 404
        assert http_(server, "/api/table", {})[0] == 404
        assert http_(server, "/api/search", "{")[:2] == (
            400,
            {"error": "the body is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"},
        )
        assert http_(server, "/api/search", b"\xff\xfe\xff")[0] == 400
        assert http_(server, "/api/search", b"", **{"Content-Length": str(1 << 30)})[0] == 400
        assert http_(server, "/../../etc/passwd")[0] == 404


def test_the_page_needs_nothing_from_elsewhere_and_allows_no_other_script(demo: Demo) -> None:
    with served(demo) as server:
        status, page, headers = http_(server, "/")
        again = http_(server, "/")[2]
    assert status == 200 and "NONCE" not in page
    assert not re.search(
        r"""(src|href)\s*=\s*["'](?!data:)|@import|url\(|innerHTML|insertAdjacentHTML|document\.write|eval\(""", page
    )
    policy = headers["Content-Security-Policy"]
    assert (
        policy.startswith("default-src 'none'; script-src 'nonce-")
        and "unsafe" not in policy
        and policy != again["Content-Security-Policy"]
    )
    assert page.count(re.findall(r"nonce-([^']+)'", policy)[0]) == 2
    assert len(page) < 60_000


def test_a_burst_of_connections_waits_for_a_server_that_is_busy(demo: Demo) -> None:
    with Server(demo) as server, ExitStack() as connections:
        for _ in range(40):
            connections.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=5))


def test_searches_at_the_same_time_have_their_own_answers(demo: Demo) -> None:
    with served(demo) as server:
        answers: Dict[int, Any] = {}
        threads = [
            threading.Thread(
                target=lambda row=row: answers.update({row: http_(server, "/api/search", {"row": row, "recall": 0.7})})
            )
            for row in range(1, 17)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(
            answers[row][0] == 200 and ids(answers[row][1]) == ids(demo.search({"row": row, "recall": 0.7})) for row in range(1, 17)
        )


# The command.


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sqlite_ivf", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted_and_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    for arguments in ([], ["--save", "packages.db"]) if sent == signal.SIGINT else ([],):
        with command("--no-browser", *arguments, cwd=tmp_path) as process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"packages of (.+): http://127\.0\.0\.1:(\d+)/  \(Ctrl-C ends it\)\n", line)
            assert found, (line, process.stderr.read())
            connection = http.client.HTTPConnection("127.0.0.1", int(found.group(2)))
            connection.request("POST", "/api/search", '{"row": 1}', {"Content-Type": "application/json"})
            assert json.loads(connection.getresponse().read())["answers"]
            process.send_signal(sent)  # with the connection open
            assert process.wait(30) == 0 and process.stderr.read() == ""
            connection.close()
            assert Path(found.group(1)).exists() == bool(arguments) and Path(found.group(1)).parent.exists() == bool(arguments)
    if sent == signal.SIGINT:
        with opened(str(tmp_path / "packages.db")) as demo:
            assert demo.rows == 4400


def test_errors_of_the_command_name_the_thing(tmp_path: Path) -> None:
    filled(tmp_path / "items.db", 20, train=False)
    with closing(connect(str(tmp_path / "two.db"))) as db:
        for name in ("a", "b"):
            Table.create(db, name, 2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for arguments, words in [
            (["nothing.db"], "there is no file nothing.db"),
            (["items.db", "--save", "x.db"], "--save is for the bundled texts"),
            (["--save", "items.db"], "--save: there is a file items.db already"),
            (["items.db", "other"], "there is no ivf table 'other'"),
            (["two.db"], "two.db has 2 ivf tables: name one of a, b"),
            (["two.db", "a"], "a has no rows"),
            (["items.db", "--texts", "words"], "--texts words: there is no FTS5 table of this name"),
            (["items.db", "--label", "words"], "--label words: a column of items, or TABLE.COLUMN, is expected"),
            (["items.db", "--embed", "x"], "--embed: module:function is expected, got 'x'"),
            (["items.db", "--port", str(taken)], f"127.0.0.1, port {taken}: "),
            (["items.db", "--port", "70000"], "--port: a number from 0 to 65535 is expected, got 70000"),
        ]:
            with command(*arguments, "--no-browser", cwd=tmp_path) as process:
                out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (1, "") and words in err, err


# In a browser.


@pytest.fixture(scope="module")
def page(demo: Demo) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    if program is None:
        pytest.skip("there is no Chromium")
    with served(demo) as server, playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("request", lambda request: None if request.url.startswith(server.url) else page.errors.append(request.url))
        page.goto(server.url)
        yield page
        assert page.errors == []
        browser.close()


def until(page: Any, condition: str) -> None:
    # The page's policy lets no `wait_for_function` poll inside it.
    for _ in range(2000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def settled(page: Any) -> None:
    until(page, "!running && !again && !!last && !!table && curve.length > 0")


def shown(page: Any) -> List[int]:
    settled(page)
    return [
        int(row) for row in page.eval_on_selector_all("#answers li:not(.empty)", "items => items.map(item => item.dataset.row)")
    ]


def test_in_a_browser_a_text_is_typed_and_picked_and_its_neighbours_are_those_of_sql(page: Any, demo: Demo) -> None:
    assert shown(page) == ids(demo.search({"row": 1414, "recall": 0.95})) and "gnuchess" in page.inner_text("#query")
    page.focus("#text")
    page.keyboard.type("satellite tr")
    until(page, "document.querySelectorAll('[role=option]').length > 1 && options[0].text.includes('racking')")
    assert page.get_attribute("#text", "aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    chosen = page.inner_text("[role=option][aria-selected=true]")
    page.keyboard.press("Enter")
    settled(page)
    assert page.inner_text("#query").split() == chosen.split() and page.get_attribute("#text", "aria-expanded") == "false"
    row = next(each["row"] for each in demo.suggest("satellite tr") if each["text"].replace(": ", " ", 1).split() == chosen.split())
    vec = f"(SELECT vec FROM packages WHERE rowid = {row})"
    sql = f"SELECT rowid FROM packages WHERE vec MATCH {vec} AND k = 10 AND recall_target = 0.95 AND rowid != {row}"
    assert shown(page) == [each[0] for each in demo.connection.execute(sql)]

    # The slider, by keys.
    page.focus("#target")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#target-value") == "0.75"
    answer = demo.search({"row": row, "recall": 0.75})
    assert shown(page) == ids(answer)
    assert page.inner_text("#probed") == str(answer["lists"]["probed"]) == str(page.locator("#lists i.lit").count())
    assert page.inner_text("#scanned") == f"{answer['rows']['scanned']:,}"
    assert page.inner_text("#recall") == f"{answer['recall'] * 100:.0f} %"

    # Filters.
    page.click(".facet[aria-label=subject] .chip:has-text('science')")
    page.fill("input[data-column=words][data-end=min]", "4")
    where = {"subject": ["science"], "words": {"min": 4}}
    answer = demo.search({"row": row, "recall": 0.75, "where": where})
    assert shown(page) == ids(answer) and f"{answer['rows']['matching']:,} match" in page.inner_text("#scanned-note")
    assert page.inner_text("#sql").strip() == answer["sql"]
    page.fill("input[data-column=words][data-end=min]", "")
    page.click(".facet[aria-label=subject] .chip:has-text('none')")
    assert shown(page) == ids(demo.search({"row": row, "recall": 0.75, "where": {"subject": [None]}}))
    page.click(".facet[aria-label=subject] .chip:has-text('none')")

    # One row of each, and diverse ones.
    page.select_option("#per", "family")
    page.check("#mmr")
    assert shown(page) == ids(demo.search({"row": row, "recall": 0.75, "per": "family", "mmr": 0.5}))

    # Hybrid, with the words that were typed.
    page.check("#hybrid")
    page.focus("#words")
    page.keyboard.press("End")
    answer = demo.search({"row": row, "recall": 0.75, "hybrid": True, "text": "satellite tr", "words": 1})
    assert shown(page) == ids(answer) and "satellite tr" in page.inner_text("#words-note")
    bar = page.evaluate("document.querySelector('#answers .words i').style.width")
    assert bar == "100%" and page.is_disabled("#per")

    # The address has all of it.
    page.reload()
    assert shown(page) == ids(answer)
    page.uncheck("#hybrid")
    page.uncheck("#mmr")
    page.select_option("#per", "")

    # A neighbour becomes the query, and the focus stays.
    second = shown(page)[1]
    page.click("#answers li:nth-child(2) button")
    until(page, f"last.query.row === {second}")
    assert shown(page) == ids(demo.search({"row": second, "recall": 0.75}))
    assert page.evaluate("document.activeElement.closest('li') === document.querySelector('#answers li:nth-child(2)')")


def test_in_a_browser_nothing_is_wider_than_the_page_and_nothing_jumps(page: Any) -> None:
    top = "Math.round(document.querySelector(id).getBoundingClientRect().top + scrollY)"
    places = f"['#answers', '#sql', '#lists', '#curve'].map(id => {top})"
    for width, height in ((1280, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        before = page.evaluate(places)
        for value in ("0.5", "1", "0.95"):
            page.evaluate(f"$('target').value = {value}; search()")
            settled(page)
            assert page.evaluate(places) == before
        page.evaluate("$('hybrid').click()")
        settled(page)
        if width == 1280:
            assert page.evaluate(places) == before
        page.evaluate("$('hybrid').click()")
        settled(page)


def test_in_a_browser_texts_are_no_markup(page: Any, tmp_path: Path) -> None:
    filled(tmp_path / "items.db")
    with opened(str(tmp_path / "items.db")) as demo, served(demo) as server:
        tab = page.context.browser.new_page()
        tab.goto(server.url)
        settled(tab)
        assert "<b>" in tab.inner_text("#answers") and tab.locator("#answers b").count() == 0
        tab.fill("#text", "<b>7</b>")
        tab.wait_for_selector("[role=option]")
        assert tab.inner_text("[role=option]").startswith("<b>7</b>")
        tab.close()


def test_in_a_browser_a_typed_text_is_the_query_where_a_function_embeds_it(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = filled(tmp_path / "items.db")
    Path("model_of_page.py").write_text("def embed(text):\n    return [float(text)] * 8\n")
    with opened("items.db", embed="model_of_page:embed") as demo, served(demo) as server:
        tab = page.context.browser.new_page()
        tab.goto(server.url)
        settled(tab)
        tab.fill("#text", "2.5")
        tab.press("#text", "Enter")
        until(tab, "last.query.row === null")
        tab.evaluate("$('target').value = 1; search()")
        assert shown(tab) == [i + 1 for i in nearest(vectors, np.full(8, 2.5), 10)] and tab.inner_text("#query") == "2.5"
        tab.fill("#text", "many")
        tab.press("#text", "Enter")
        tab.wait_for_selector("#error")
        assert "could not convert" in tab.inner_text("#error")
        tab.close()
