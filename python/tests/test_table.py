from __future__ import annotations

import logging
import sqlite3
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

import sqlite_ivf
from conftest import nearest, needs, random
from sqlite_ivf import Progress, Table, watch


def test_a_column_that_there_is_not_is_named_and_no_text(db: Any) -> None:
    table = Table.create(db, "items", 2, columns={"year": "INTEGER"})
    table.add([[1, 0], [0, 1]], ids=[1, 2], metadata={"year": [2020, 2021]})
    assert table.search([1, 0], where={"YEAR": 2021, "rowid": [1, 2]}).ids.tolist() == [2]
    assert table.get([2], "rowid", "oid", "_rowid_") == [(2, 2, 2)]
    for wrong in (
        lambda: table.search([1, 0], where={"yaer": "yaer"}),
        lambda: table.search([[1, 0], [0, 1]], where={"yaer": 2021}),
        lambda: table.get([1], "rowid", "yaer"),
    ):
        with pytest.raises(ValueError, match="items has no column 'yaer', expected one of rowid, vec, year"):
            wrong()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip", "l1"])
def test_answers_are_those_of_brute_force(db: Any, metric: str) -> None:
    rows, queries = random(3000, 16), random(20, 16, 1)
    table = Table.create(db, "t", 16, metric=metric)
    table.add(rows, np.arange(3000))
    table.train()
    hits = table.search(queries, 7, nprobe=-1)
    assert hits.ids.tolist() == [nearest(rows, query, 7, metric) for query in queries]
    assert (np.diff(hits.distances) >= 0).all() and hits.ids.dtype == np.int64 and hits.distances.shape == (20, 7)
    for query, ids in zip(queries, hits.ids):
        assert table.search(query, 7, nprobe=-1).ids.tolist() == ids.tolist()


@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16", "int8", "bit"])
def test_every_element_goes_in_and_comes_out(db: Any, element: str) -> None:
    rows = np.random.default_rng(0).integers(0, 2 if element == "bit" else 100, (200, 16))
    table = Table.create(db, "t", 16, element=element)
    assert (table.element, table.dim) == (element, 16)
    ids = table.add(rows)
    assert (table.vectors(ids) == rows).all() and table.vectors(ids[:0]).shape == (0, 16)
    found = table.search(rows[:5], 3, nprobe=-1)
    assert found.ids.tolist() == [[ids[i] for i in nearest(rows, row, 3, "l1" if element == "bit" else "l2")] for row in rows[:5]]
    assert table.search(rows[7], 1).distances.tolist() == [0]


def test_matrices_of_any_type_and_layout_are_the_same_rows(db: Any) -> None:
    rows = np.round(random(50, 6) * 4) / 4
    for i, given in enumerate(
        [rows.tolist(), rows.astype(np.float64), np.asfortranarray(rows), np.repeat(rows, 2, 1)[:, ::2], rows.astype("f2")]
    ):
        table = Table.create(db, f"t{i}", 6)
        assert (table.vectors(table.add(given)) == rows).all()


def test_torch_tensors_go_in(db: Any) -> None:
    torch = needs("torch")
    rows = torch.randn(100, 4)
    table = Table.create(db, "t", 4)
    table.add(rows, torch.arange(100))
    assert table.search(rows[:3].requires_grad_(), 1).ids[:, 0].tolist() == [0, 1, 2]


def test_automatic_ids_follow_the_largest(db: Any) -> None:
    table = Table.create(db, "t", 2)
    assert table.add(random(3, 2)).tolist() == [1, 2, 3]
    table.add(random(1, 2), [100])
    assert table.add(random(2, 2)).tolist() == [101, 102]
    assert table.add(random(0, 2)).tolist() == [] and len(table) == 6


def test_add_is_all_or_nothing_and_replace_replaces(items: Table) -> None:
    with pytest.raises(Exception, match=r"row 5 exists"):
        items.add(random(2, 8), [9000, 5])
    assert len(items) == 3000
    items.add(random(2, 8, 5), [9000, 5], replace=True)
    assert len(items) == 3001 and (items.vectors([5])[0] == random(2, 8, 5)[1]).all()


def test_a_call_commits_alone_and_belongs_to_a_transaction_that_is_open(opened: Callable[[str], Any], tmp_path: Any) -> None:
    db, other = opened(str(tmp_path / "t.db")), opened(str(tmp_path / "t.db"))
    table = Table.create(db, "t", 2)
    table.add([[1, 0]])
    assert len(Table(other, "t")) == 1
    db.execute("BEGIN")
    table.add([[2, 0]])
    table.set(nprobe=3)
    assert (len(table), len(Table(other, "t"))) == (2, 1)
    db.execute("ROLLBACK")
    assert len(table) == 1
    assert table.delete([1, 1, 99]) == 1 and len(Table(other, "t")) == 0


def test_conditions_are_part_of_the_search(items: Table) -> None:
    rows, query = random(3000, 8), random(1, 8, 9)[0]
    years, langs = 2000 + np.arange(3000) % 25, np.array([["en", "de", "fr"][i % 3] for i in range(3000)])

    def expected(mask: Any) -> List[int]:
        ids = np.flatnonzero(mask)
        return [int(ids[i]) for i in nearest(rows[ids], query, 5)]

    def found(where: Any, *values: Any) -> List[int]:
        ids: List[int] = items.search(query, 5, where=where, values=values, nprobe=-1).ids.tolist()
        return ids

    assert found({"year": 2003}) == expected(years == 2003)
    assert found({"year": np.int64(2003), "lang": ["de", "fr"]}) == expected((years == 2003) & (langs != "en"))
    assert found("year > ? AND lang != ?", 2020, "en") == expected((years > 2020) & (langs != "en"))
    assert found({"rowid": np.arange(100, 200)}) == expected((np.arange(3000) >= 100) & (np.arange(3000) < 200))
    assert found({"rowid": 17}) == [17] and found({"rowid": [17]}) == [17] and found({"lang": None}) == []
    assert items.search(random(2, 8, 9), 5, where={"year": 2003}, nprobe=-1).ids[0].tolist() == expected(years == 2003)
    with pytest.raises(Exception, match="joined by OR"):
        found("year = 2001 OR lang = 'de'")


def test_a_distance_bounds_a_search_with_and_without_k(items: Table) -> None:
    rows, queries = random(3000, 8), random(3, 8, 9)
    hits = items.search(queries, None, within=2.0, nprobe=-1)
    for ids, distances, query in zip(hits.ids, hits.distances, queries):
        expected = set(np.flatnonzero(np.linalg.norm(rows - query, axis=1) <= 2.0))
        assert set(ids[ids >= 0]) == expected and np.isinf(distances[ids < 0]).all()
    assert (items.search(queries[0], 3, within=2.0, nprobe=-1).distances <= 2.0).all()
    with pytest.raises(ValueError, match="a search has a k"):
        items.search(queries, None)


def test_settings_reach_the_search_and_a_wrong_one_is_an_error(items: Table) -> None:
    items.search(random(1, 8), 5, nprobe=3)
    assert items.profile()["probe"][0] == 3
    items.search(random(1, 8)[0], 5, nprobe=20, candidate_budget=100, budget_strategy="uniform")
    assert items.profile()["scan"][0] <= 100
    items.set(nprobe=2)
    items.search(random(1, 8), 5)
    assert items.profile()["probe"][0] == 2
    with pytest.raises(Exception, match="got 'nprob=3'"):
        items.search(random(1, 8), 5, nprob=3)  # type: ignore[call-arg]
    with pytest.raises(Exception, match="profile must be"):
        items.search(random(1, 8), 5, profile="fast")


def test_a_vector_of_another_length_is_an_error_that_says_which_is_right(items: Table) -> None:
    for call in (lambda: items.search(random(3, 7), 5), lambda: items.add(random(3, 7)), lambda: items.search(random(1, 9)[0])):
        with pytest.raises(ValueError, match=r"vec: vectors have 8 dimensions, got an array of shape"):
            call()
    with pytest.raises(ValueError, match="year: 2 values for 3 vectors"):
        items.add(random(3, 8), metadata={"year": [1, 2]})


def test_a_search_for_nothing_finds_nothing(items: Table, db: Any) -> None:
    assert items.search(random(0, 8), 4).ids.shape == (0, 4)
    empty = Table.create(db, "empty", 3)
    assert empty.search([1, 2, 3], 4).ids.tolist() == []
    assert empty.search([[1, 2, 3]], 2).ids.tolist() == [[-1, -1]]


def test_conditions_that_contradict_each_other_find_nothing(items: Table) -> None:
    for where in ("year = ? AND year = ?", "year > ? AND year < ? AND year = 1 AND year = 2"):
        assert items.search(random(1, 8)[0], 4, where=where, values=(2001, 2002)).ids.tolist() == []
        assert items.search(random(2, 8), 4, where=where, values=(2001, 2002)).ids.tolist() == [[-1] * 4] * 2


def test_a_table_opens_as_it_was_made(db: Any) -> None:
    db.execute(
        'CREATE VIRTUAL TABLE "my ""items""" USING ivf(id TEXT PRIMARY KEY, +b BLOB,'
        ' "the vec" float16[4] distance_metric=cosine,'
        " other int8[8], n INTEGER, nlist=4)"
    )
    table = Table(db, 'MY "items"')
    assert (table.name, table.column, table.element, table.dim, table.metric) == ('my "items"', "the vec", "float16", 4, "cosine")
    assert table.columns == ["id", "b", "the vec", "other", "n"]
    second = Table(db, 'my "items"', column="OTHER")
    assert (second.element, second.dim, second.metric) == ("int8", 8, "l2")
    rows = np.arange(16).reshape(2, 8)
    table.add(random(2, 4), [7, 8], {"id": ["a", "b"], "other": [row.astype("i1").tobytes() for row in rows]})
    assert table.search(random(2, 4), 1).ids.tolist() == [[7], [8]]
    assert second.search(rows, 1).ids.tolist() == [[7], [8]]
    assert second.get([8], "id", "n") == [("b", None)]
    for name in ("nothing", "sqlite_schema"):
        with pytest.raises(ValueError, match="there is no ivf table"):
            Table(db, name)
    with pytest.raises(ValueError, match=r"no vector column 'n', its own are \['the vec', 'other'\]"):
        Table(db, 'my "items"', column="n")
    with pytest.raises(LookupError, match="has no row 9"):
        table.get([9], "n")


def test_a_table_of_the_name_vec0_is_one_too(db: Any) -> None:
    db.execute("CREATE VIRTUAL TABLE v USING vec0(embedding float[3])")
    table = Table(db, "v")
    assert table.search(random(2, 3), 1).ids.shape == (2, 1) and table.add(random(2, 3)).tolist() == [1, 2]


def test_columns_that_take_the_names_of_hidden_ones_are_searched_too(db: Any) -> None:
    rows = random(50, 3)
    table = Table.create(db, "vec", 3, columns={"query": "TEXT", "packed": "INTEGER", "+rowids": "TEXT"})
    table.add(rows, np.arange(50), {"packed": np.arange(50)})
    table.command("nprobe=3")
    assert table.search(rows[:4], 2).ids[:, 0].tolist() == [0, 1, 2, 3]
    assert table.search(rows[4], 2, where={"packed": [4, 5]}).ids[0] == 4


def test_row_factories_of_the_connection_do_not_matter() -> None:
    db: Any = sqlite_ivf.connect()
    if not isinstance(db, sqlite3.Connection):
        pytest.skip("sqlite3 cannot load extensions here")
    db.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row)}
    table = Table.create(db, "t", 2)
    table.add([[1, 0], [0, 1]])
    assert table.search([[1, 0]], 1).ids.tolist() == [[1]] and table.stats()["rows"] == 2 and table.get([2], "rowid") == [(2,)]


def test_attached_databases_and_names_with_dots(db: Any) -> None:
    db.execute("ATTACH ':memory:' AS other")
    table = Table.create(db, "a.b", 2, schema="other")
    table.add([[1, 0], [0, 1]])
    assert (len(table), table.search([0, 1], 1).ids.tolist()) == (2, [2])


def test_training_tells_how_far_it_is(db: Any) -> None:
    table = Table.create(db, "t", 8, train_at="off")
    table.add(random(5000, 8))
    heard: List[Progress] = []
    with watch(db, lambda progress: heard.append(progress), interval=0):
        table.train(nlist=30)
    assert "k-means" in {progress.stage for progress in heard} and {progress.command for progress in heard} == {"train"}
    assert table.stats()["nlist"] == 30


def test_a_training_that_its_callback_ends_leaves_the_table_as_it_was(db: Any) -> None:
    table = Table.create(db, "t", 8, train_at="off")
    table.add(random(5000, 8))
    with pytest.raises(Exception, match="interrupted"):
        table.train(progress=lambda progress: False)

    class Enough(Exception):
        pass

    def enough(progress: Progress) -> None:
        raise Enough

    with pytest.raises(Enough):
        table.train(progress=enough)
    assert (table.stats()["trained"], len(table)) == (0, 5000)
    table.check()


def test_ctrl_c_is_heard_in_a_training(db: Any) -> None:
    table = Table.create(db, "t", 8, train_at="off")
    table.add(random(5000, 8))

    def press(progress: Progress) -> None:
        import _thread

        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            table.train(progress=press)
    assert len(table) == 5000


def test_a_bar_of_tqdm_is_drawn(items: Table, capfd: pytest.CaptureFixture[str]) -> None:
    needs("tqdm")
    items.add(random(20000, 8), np.arange(20000) + 5000)
    items.train(progress=True)
    assert "train" in capfd.readouterr().err


def test_recall_and_calibration_go_by_the_queries_given(items: Table) -> None:
    queries = random(50, 8, 3)
    assert items.recall(queries, 10, nprobe=-1).recall == 1
    some = items.recall(queries, 10, nprobe=1)
    assert some.recall < 1 and some.lists_probed == 1 and some.queries == 50
    items.calibrate(queries)
    assert items.stats()["calibrated_by"] == "queries"
    items.calibrate()
    assert items.stats()["calibrated_by"] == "rows"
    items.optimize()
    items.check()


def test_the_statements_are_shown_and_logged(items: Table, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sqlite_ivf"):
        items.search(random(2, 8), 5, where={"year": [2001, 2002]}, nprobe=4)
    assert items.sql == (
        'SELECT rowids, distances FROM "main"."items" WHERE batch MATCH ? AND k = ? AND packed = 1 AND '
        '"year" IN (SELECT value FROM json_each(?)) AND params = ?'
    )
    assert items.sql in caplog.messages


def test_commands_that_write_nothing_run_on_a_read_only_connection(opened: Callable[[str], Any], tmp_path: Any) -> None:
    path = str(tmp_path / "t.db")
    table = Table.create(opened(path), "t", 2)
    table.add(random(10, 2))
    db = opened(path)
    db.execute("PRAGMA query_only = 1")
    table = Table(db, "t")
    table.command("preload")
    table.check()
    assert table.search([[1, 2]], 1).ids.shape == (1, 1)


@pytest.mark.parametrize("names", [("doc", "lang"), ("per", "mmr")])
def test_groups_and_diverse_rows(db: Any, names: Tuple[str, str]) -> None:
    doc, lang = names
    chunks = Table.create(db, "chunks", 2, columns={doc: "INTEGER", lang: "TEXT"})
    vectors = [[i, i % 3] for i in range(1, 40)]
    chunks.add(vectors, ids=list(range(1, 40)), metadata={doc: [i // 4 for i in range(1, 40)]})
    assert chunks.search([0, 0], k=3, per=doc).ids.tolist() == [1, 4, 8]
    assert chunks.search([0, 0], k=2, per=(doc, 2), where={doc: [1, 2]}).ids.tolist() == [4, 5, 8, 9]
    assert chunks.search([[0, 0], [0, 0]], k=2, per=(doc, 2)).ids.tolist() == [[1, 2, 4, 5]] * 2
    assert chunks.search([0, 0], k=2, mmr=1).ids.tolist() == [1, 2]
    assert chunks.search([0, 0], k=2, mmr=(0, 20)).ids.tolist() == [1, 20]
    assert chunks.search([0, 0], k=2, mmr=(0, 5), per=doc, nprobe=-1).ids.tolist() == [1, 16]
    with pytest.raises(Exception, match="metadata or partition column .*'dok'"):
        chunks.search([0, 0], per="dok")


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", 'it\'s "a", b=c', "🚀 ", "x" * 1024])
def test_a_model_is_checked_where_it_is_named(db: Any, name: str) -> None:
    table = Table.create(db, "t", 2, model=name)
    table.add([[1, 0], [0, 1]])
    assert (table.model, Table(db, "t", model=name).model, table.stats()["model"]) == (name, name, name)
    assert table.search([1, 0], 1).ids.tolist() == table.search([[1, 0]], 1, model=name, nprobe=-1).ids[0].tolist() == [1]
    acts: List[Callable[[str], Any]] = [
        lambda wrong: Table(db, "t", model=wrong),
        lambda wrong: table.search([1, 0], 1, model=wrong),
        lambda wrong: table.search([[1, 0]], 1, model=wrong, nprobe=-1),
        lambda wrong: table.check_model(wrong),
    ]
    for wrong in ["other", name.upper() + "!", ""]:
        for act in acts:
            with pytest.raises(Exception, match="t is of model"):
                act(wrong)
    with pytest.raises(Exception, match="model must be a name of 1 to 1024 bytes"):
        Table.create(db, "empty", 2, model="")


def test_a_table_that_was_opened_with_a_model_notices_that_it_changed(db: Any) -> None:
    table = Table.create(db, "t", 2, model="a")
    table.add([[1, 0]])
    other = Table(db, "t")
    with pytest.raises(Exception, match="of model 'a' already, got 'b'"):
        other.set_model("b")
    other.set_model("b", instead_of="a")
    acts: List[Callable[[], Any]] = [lambda: table.add([[1, 1]]), lambda: table.search([1, 0])]
    for act in acts:
        with pytest.raises(Exception, match="t is of model 'b', got 'a'"):
            act()
    assert len(other) == 1 and other.search([1, 0]).ids.tolist() == [1]


def test_a_column_called_model_leaves_the_check_to_params(db: Any) -> None:
    table = Table.create(db, "t", 1, columns={"model": "TEXT"}, model="a, 'b'")
    table.add([[1], [2]], metadata={"model": ["Beetle", "Mini"]})
    assert table.search([0], where={"model": "Mini"}, nprobe=-1).ids.tolist() == [2]
    with pytest.raises(Exception, match="got 'c'"):
        table.search([0], where={"model": "Mini"}, model="c")


def test_several_columns_have_models_of_their_own(db: Any) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING ivf(title float[2] model='a', body float[2] model='b')")
    title, body = Table(db, "t", model="a"), Table(db, "t", column="body", model="b")
    assert (title.model, body.model) == ("a", "b")
    db.execute("INSERT INTO t VALUES ('[1, 0]', '[0, 1]')")
    assert title.search([1, 0]).distances.tolist() == body.search([[0, 1]], 1).distances[0].tolist() == [0]
    with pytest.raises(Exception, match="t.body is of model 'b', got 'a'"):
        Table(db, "t", column="body", model="a")
    body.set_model("c", instead_of="b")
    assert (title.model, body.model, body.search([0, 1]).ids.tolist()) == ("a", "c", [1])


def test_a_table_is_switched_for_another_when_it_has_the_same_rows(db: Any) -> None:
    table = Table.create(db, "t", 2, model="a")
    table.add(random(50, 2), np.arange(50))
    following = Table.create(db, "t_next", 3, model="b", element="float16")
    following.add(random(40, 3), np.arange(10, 50))
    assert table.missing_in(following).tolist() == list(range(10))
    assert table.missing_in(following, 3).tolist() == [0, 1, 2] and following.missing_in(table).tolist() == []
    with pytest.raises(Exception, match="it lacks 10 rows"):
        table.switch(following)
    assert (len(table), table.model, len(following)) == (50, "a", 40)
    with pytest.raises(RuntimeError), table.transaction():
        assert len(table.switch(following, accept=["missing"])) == 40
        raise RuntimeError
    assert (len(table), len(following)) == (50, 40)
    switched = table.switch(following, accept="missing")
    assert (switched.name, switched.dim, switched.model, len(switched), switched.element) == ("t", 3, "b", 40, "float16")
    assert switched.search(random(1, 3)[0], 1).ids.tolist() == [10]


def test_a_table_can_be_an_index_over_another_one(db: Any) -> None:
    rows = random(300, 8)
    db.execute('CREATE TABLE "my docs"(id INTEGER PRIMARY KEY, vec BLOB, lang TEXT)')
    db.executemany('INSERT INTO "my docs" VALUES (?, ?, ?)', [(i, row.tobytes(), "de") for i, row in enumerate(rows)])
    table = Table.create(db, "near", 8, columns={"lang": "TEXT"}, content="my docs", content_rowid="id")
    table.command("rebuild")
    db.execute("SELECT ivf_triggers('near', 'create')").fetchone()
    assert len(table) == 300 and (table.vectors([5, 7]) == rows[[5, 7]]).all()
    assert table.search(rows[3], 5).ids.tolist() == nearest(rows, rows[3], 5, "l2")
    db.execute('DELETE FROM "my docs" WHERE id = 3')
    assert table.search(rows[3], 1).ids.tolist() != [3] and len(table) == 299


@pytest.mark.parametrize("n", [1, 8, 9, 13, 20, 40])
def test_a_dict_of_any_number_of_columns_is_a_condition_of_the_search(db: Any, n: int) -> None:
    rows, names = random(300, 4), [f"c{i}" for i in range(n)]
    table = Table.create(db, "t", 4, columns=dict.fromkeys(names, "INTEGER"))
    values = [[None if row % 11 == 0 else int(row % (i + 2) > 0) for row in range(300)] for i in range(n)]
    table.add(rows, np.arange(300), metadata=dict(zip(names, values)))
    among = [row for row in range(50, 300) if all(each[row] == 1 for each in values)]
    where = {**dict.fromkeys(names, 1), "rowid": range(50, 300)}
    hits = table.search([0, 0, 0, 0], 300, where=where, within=9, nprobe=-1)
    assert sorted(hits.ids.tolist()) == among and among
    assert table.search([0] * 4, 3, where=where).ids.tolist() == [among[at] for at in nearest(rows[among], np.zeros(4), 3)]
    table.search([0] * 4, 3, where=where, within=9, per=names[0], mmr=0.5, nprobe=-1)
    for given, expected in ((where, among), (dict.fromkeys(names), [*range(0, 300, 11)])):
        assert sorted(table.search([0] * 4, 300, where=given).ids.tolist()) == expected
    db.execute("CREATE VIRTUAL TABLE words USING fts5(body)")
    assert sorted(table.hybrid("words", [0] * 4, None, 300, where=where).ids.tolist()) == among
    assert table.maxsim([[0] * 4], 3, per=names[0], where=where)


def test_a_whole_number_that_sqlite_has_not_is_named(db: Any) -> None:
    table = Table.create(db, "t", 2, columns={"year": "INTEGER"})
    table.add([[1, 0]], metadata={"year": [1]})
    calls: List[Callable[[], Any]] = [
        lambda: table.search([0, 0], 2**63),
        lambda: table.search([0, 0], where={"year": 2**63}),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a whole number of 64 bits is expected, got 9223372036854775808"):
            call()
