from __future__ import annotations

import random
from typing import Any, List

import numpy as np
import pytest

from conftest import random as vectors
from sqlite_ivf import Table

WORDS = ["red", "blue", "fox", "whale", "quick", "sea", "forest", "and", "near", "error"]
NASTY = ['"', "'", "(", ")", "*", "-", ":", "^", "+", "{", "}", "NEAR(", "AND", "OR", "NOT"]
NASTY += ["\x00", "\U0001f600", "body:", "fox", " ", "%", ";", "\\"]


def shelf(db: Any, n: int = 200) -> Table:
    table = Table.create(db, "items", 8, columns={"year": "INTEGER", "lang": "TEXT"})
    choose = random.Random(1)
    metadata = {"year": [2000 + i % 20 for i in range(n)], "lang": ["de" if i % 3 else "en" for i in range(n)]}
    table.add(vectors(n, 8), np.arange(1, n + 1), metadata)
    db.execute("CREATE VIRTUAL TABLE texts USING fts5(title, body)")
    for rowid in range(1, n + 1):
        title, body = choose.choice(WORDS), " ".join(choose.choices(WORDS, k=5))
        db.execute("INSERT INTO texts(rowid, title, body) VALUES (?, ?, ?)", (rowid, title, body))
    return table


def test_an_answer_is_that_of_the_two_sides_fused(db: Any) -> None:
    table = shelf(db)
    for i, query in enumerate(vectors(10, 8, 1)):
        text = WORDS[i]
        near = table.search(query, 80).ids.tolist()
        sql = "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank, rowid LIMIT 80"
        matching = [row[0] for row in db.execute(sql, (f'"{text}"',))]
        scores = {row: 0.0 for row in near + matching}
        for side in (near, matching):
            for place, row in enumerate(side, 1):
                scores[row] += 1 / (60 + place)
        expected = sorted(scores, key=lambda row: (-scores[row], near.index(row) if row in near else 1e9, row))[:10]
        hits = table.hybrid("texts", query, text)
        assert hits.ids.tolist() == expected
        assert hits.scores.tolist() == [scores[row] for row in expected]
        assert hits.vec_ranks.tolist() == [near.index(row) + 1 if row in near else -1 for row in expected]
        assert hits.fts_ranks.tolist() == [matching.index(row) + 1 if row in matching else -1 for row in expected]
        assert np.isnan(hits.distances).tolist() == [row not in near for row in expected]
        assert np.isnan(hits.fts_scores).tolist() == [row not in matching for row in expected]


def test_its_arguments_narrow_it(db: Any) -> None:
    table = shelf(db)
    query = vectors(1, 8, 2)[0]

    def ids(**arguments: Any) -> List[int]:
        return sorted(table.hybrid("main.texts", query, "a red fox", k=1000, **arguments).ids.tolist())

    def rows(condition: str, table: str = "items") -> List[int]:
        return [row[0] for row in db.execute(f"SELECT rowid FROM {table} WHERE {condition} ORDER BY rowid")]

    assert ids() == rows("1")
    assert ids(where={"year": [2001, 2002], "lang": "de"}) == rows("year IN (2001, 2002) AND lang = 'de'")
    assert ids(where="year > ? OR lang = ?", values=(2015, "en")) == rows("year > 2015 OR lang = 'en'")
    assert ids(where={"year": np.int64(2003)}) == rows("year = 2003")
    assert ids(text_where={"title": "fox"}) == rows("title = 'fox'", "texts")
    assert ids(text_where="title != ?", text_values=["fox"], where={"lang": "de"}, ids=np.arange(50)) == [
        row for row in rows("title != 'fox'", "texts") if row in rows("lang = 'de'") and row < 50
    ]
    assert ids(ids=[]) == []
    with pytest.raises(Exception, match="no such column: titel"):
        ids(text_where={"titel": "titel"})
    assert table.hybrid("texts", None, "red fox", mode="all", text_columns="body", k=1000).vec_ranks.max() == -1
    assert len(table.hybrid("texts", query, None, k=3, nprobe=-1).ids) == 3
    assert len(table.hybrid("texts", None, None).ids) == 0
    everything = {"where": {"lang": "de"}, "text_where": {"title": "fox"}, "ids": range(100), "text_columns": ["body", "title"]}
    for vector, text in ((None, "fox"), (query, None), (query, "fox")):
        hits = table.hybrid("texts", vector, text, candidates=1000, nprobe=-1, **everything)  # type: ignore[arg-type]
        assert len(hits.ids) > 0
    only = table.hybrid("texts", query, "fox", k=5, weights=(0, 1), fusion="sum", candidates=7)
    assert only.fts_ranks[0] == 1 and only.scores[0] == 1 and (only.fts_ranks <= 7).all()
    assert table.sql.endswith("ORDER BY rank") and "FROM ivf_hybrid WHERE vec_table = ?" in table.sql


def test_a_hundred_nasty_texts_are_words(db: Any) -> None:
    table = shelf(db, 50)
    choose = random.Random(3)
    query = vectors(1, 8, 2)[0]
    for _ in range(100):
        text = "".join(choose.choices(NASTY, k=choose.randrange(12)))
        for mode in ("any", "all"):
            assert len(table.hybrid("texts", query, text, mode=mode).ids) == 10, text


def test_what_cannot_be_asked_for_is_an_error(db: Any) -> None:
    table = shelf(db, 10)
    query = vectors(1, 8, 2)[0]
    with pytest.raises(ValueError, match="one vector, got an array of 2"):
        table.hybrid("texts", vectors(2, 8), "fox")
    with pytest.raises(ValueError, match="vectors have 8 dimensions"):
        table.hybrid("texts", [1, 2], "fox")
    for texts, arguments, expected in [
        ("nothing", {}, "no such table: nothing"),
        ("items", {}, "'items' is not an FTS5 table"),
        ("texts", {"mode": "some"}, "fts_mode must be one of any, all, fts5, got 'some'"),
        ("texts", {"nprobe": 0}, "nprobe"),
        ("texts", {"where": "nope = 1"}, "no such column: nope"),
        ("texts", {"k": -1}, "k must be a whole number from 0, got -1"),
    ]:
        with pytest.raises(Exception, match=expected):
            table.hybrid(texts, query, "fox", **arguments)  # type: ignore[arg-type]
