from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest

from conftest import nearest, needs, random
from sqlite_ivf import Table, connect, serialize_float32
from sqlite_ivf.cli import main

Run = Callable[..., Tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Tuple[int, str, str]:
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def ok(run: Run, *arguments: str) -> Dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    result: Dict[str, Any] = json.loads(out)
    return result


def table(name: str = "items") -> Table:
    return Table(connect("items.db"), name)


ROWS = random(300, 8)


def test_a_matrix_becomes_a_table_whose_rows_are_found(run: Run) -> None:
    for dtype in ("f2", "f4", "f8", "i1"):
        rows = np.round(ROWS * 8).astype(dtype)
        np.save("rows.npy", rows)
        assert ok(run, "import", "rows.npy", "items.db", dtype, "--metric", "l2")["rows"] == 300
        made = table(dtype)
        assert (made.vectors(range(300)) == rows).all() and (made.metric, made.dim) == ("l2", 8)
    found = ok(run, "search", "items.db", "f4", "rows.npy", "-k", "3", "--set", "nprobe=-1")["answers"]
    rows = np.round(ROWS * 8)
    assert [[hit["rowid"] for hit in answer] for answer in found] == [nearest(rows, row, 3) for row in rows]


def test_fvecs_are_read_and_damaged_ones_refused(run: Run) -> None:
    body = np.hstack([np.full((300, 1), 8, "<i4").view("<f4"), ROWS])
    body.tofile("rows.fvecs")
    ok(run, "import", "rows.fvecs", "items.db", "items", "--metric", "cosine", "--element", "float16", "--option", "nlist=7")
    assert np.allclose(table().vectors(range(300)), ROWS, atol=2e-3) and "nlist=7" in table().created
    Path("rows.fvecs").write_bytes(Path("rows.fvecs").read_bytes()[:-4])
    assert run("import", "rows.fvecs", "new.db", "items")[::2] == (
        1,
        "sqlite-ivf: rows.fvecs: not a whole number of vectors of 8 floats\n",
    )
    assert not Path("new.db").exists()


def test_a_parquet_file_brings_ids_and_columns(run: Run) -> None:
    pyarrow = needs("pyarrow")
    import pyarrow.parquet as parquet

    ids = (np.arange(300) * 3).tolist()
    columns = {"key": ids, "e": list(ROWS), "year": [2000 + i % 9 for i in range(300)], "title": [f"row {i}" for i in range(300)]}
    parquet.write_table(pyarrow.table(columns), "rows.parquet", row_group_size=70)
    declared = "year INTEGER, +title TEXT"
    ok(run, "import", "rows.parquet", "items.db", "items", "--id", "key", "--columns", declared, "--column", "e")
    assert (table().vectors(ids) == ROWS).all() and table().get([30], "year", "title") == [(2001, "row 10")]
    found = ok(run, "search", "items.db", "items", "rowid:30", "-k", "2", "--where", "year = 2001", "--show", "title,year")
    assert found["answers"][0][0] == {"rowid": 30, "distance": 0.0, "title": "row 10", "year": 2001}
    columns["e"] = [*ROWS[:200], ROWS[0][:5], *ROWS[201:]]
    parquet.write_table(pyarrow.table(columns), "rows.parquet")
    code, _, err = run("import", "rows.parquet", "new.db", "items")
    assert code == 1 and "row 200 has 5 numbers in e, expected 8" in err and not Path("new.db").exists()
    columns["e"] = [*ROWS[:200], None, *ROWS[201:]]
    parquet.write_table(pyarrow.table(columns), "rows.parquet")
    assert "row 200 has no vector in e, expected 8" in run("import", "rows.parquet", "new.db", "items")[2]
    assert "has no column 'f', its own are key, e" in run("import", "rows.parquet", "new.db", "items", "--vector", "f")[2]


def test_csv_files_hold_vectors_as_texts_or_as_columns(run: Run) -> None:
    Path("a.csv").write_text('id,vec,title\n5,"[1, 2.5]",one\n7,"[3, 4]",\n', encoding="utf-8")
    ok(run, "import", "a.csv", "items.db", "a", "--id", "id", "--columns", "+title TEXT")
    assert table("a").vectors([5, 7]).tolist() == [[1, 2.5], [3, 4]]
    assert table("a").get([5, 7], "title") == [("one",), (None,)]
    Path("b.csv").write_text("x,y,title\n1,2.5,one\n3,4,two\n", encoding="utf-8")
    ok(run, "import", "b.csv", "items.db", "b")
    Path("c.csv").write_text("1,2.5\n3,4\n", encoding="utf-8")
    ok(run, "import", "c.csv", "items.db", "c")
    assert table("b").vectors([0, 1]).tolist() == table("c").vectors([0, 1]).tolist() == [[1, 2.5], [3, 4]]
    Path("c.csv").write_text("1,2.5\n3\n", encoding="utf-8")
    assert "c.csv: row 1: 1 fields, expected 2" in run("import", "c.csv", "items.db", "d")[2]
    assert "no ivf table 'd'" in run("stats", "items.db", "d")[2]


def test_faiss_indexes_are_copied_with_their_ids(run: Run) -> None:
    faiss = needs("faiss")
    flat = faiss.IndexFlatIP(8)
    flat.add(ROWS)
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatL2(8), 8, 5)
    ivf.train(ROWS)
    ivf.add_with_ids(ROWS, np.arange(300) + 1000)
    mapped = faiss.IndexIDMap(faiss.IndexFlatL2(8))
    mapped.add_with_ids(ROWS, np.arange(300) * 2)
    for name, index, ids, metric in [
        ("flat", flat, np.arange(300), "ip"),
        ("ivf", ivf, np.arange(300) + 1000, "l2"),
        ("mapped", mapped, np.arange(300) * 2, "l2"),
    ]:
        faiss.write_index(index, f"{name}.faiss")
        ok(run, "import", f"{name}.faiss", "items.db", name)
        assert (table(name).vectors(ids) == ROWS).all() and table(name).metric == metric
    assert "nlist=5" in table("ivf").created
    faiss.write_index(faiss.index_factory(8, "LSH"), "lsh.faiss")
    code, _, err = run("import", "lsh.faiss", "items.db", "lsh")
    assert code == 1 and "lsh.faiss" in err


def test_a_table_of_sqlite_vec_is_copied_with_its_columns(run: Run, tmp_path: Path) -> None:
    sqlite_vec = needs("sqlite_vec")
    from sqlite_ivf.sources import _with_sqlite_vec

    assert sqlite_vec
    old: Any = _with_sqlite_vec(Path("old.db"))
    old.execute(
        "CREATE VIRTUAL TABLE docs USING vec0(user INTEGER PARTITION KEY, e float[8] distance_metric=cosine, lang TEXT,"
        " +body TEXT, chunk_size=16)"
    )
    old.execute("CREATE VIRTUAL TABLE named USING vec0(id TEXT PRIMARY KEY, e float[2], n INTEGER)")
    old.execute("CREATE VIRTUAL TABLE small USING vec0(id INTEGER PRIMARY KEY, e int8[4])")
    with old:
        for i, row in enumerate(ROWS):
            old.execute(
                "INSERT INTO docs(rowid, user, e, lang, body) VALUES (?, ?, ?, ?, ?)",
                (i + 10, i % 3, serialize_float32(row), "de", f"b{i}"),
            )
        old.execute("INSERT INTO small(id, e) VALUES (4, vec_int8('[1, 2, -3, 4]'))")
        old.execute("INSERT INTO named(id, e, n) VALUES ('x', '[1, 2]', 7)")
    old.close()
    ok(run, "import", "old.db:docs", "items.db", "items")
    made = table()
    assert (made.columns, made.metric) == (["vec", "user", "lang", "body"], "cosine")
    assert (made.vectors(np.arange(300) + 10) == ROWS).all()
    assert made.get([15], "user", "lang", "body") == [(2, "de", "b5")]
    ok(run, "import", "old.db:small", "items.db", "small")
    assert table("small").element == "int8" and table("small").get([4], "id") == [(4,)]
    assert table("small").vectors([4]).tolist() == [[1, 2, -3, 4]]
    ok(run, "import", "old.db:named", "items.db", "named")
    assert table("named").get([1], "id", "n") == [("x", 7)]
    # Our own, and an ordinary one.
    ok(run, "import", "items.db:items", "copy.db", "items")
    # SQLite takes an unknown name in quotes for a text.
    assert "has no column 'lagn', its own are " in run("import", "items.db:items", "copy.db", "other", "--columns", "lagn TEXT")[2]
    ok(run, "import", "items.db:items", "copy.db", "other", "--columns", "lang TEXT")
    db: Any = connect("plain.db")
    with db:
        db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, body TEXT, embedding BLOB)")
        db.executemany("INSERT INTO docs VALUES (?, ?, ?)", [(i, f"b{i}", serialize_float32(row)) for i, row in enumerate(ROWS)])
    ok(run, "import", "plain.db:docs", "copy.db", "plain", "--columns", "+body TEXT")
    copy = Table(connect("copy.db"), "plain")
    assert (copy.vectors(range(300)) == ROWS).all() and copy.get([7], "body") == [("b7",)]
    with db:
        db.execute("UPDATE docs SET embedding = NULL WHERE id = 9")
    assert "row 9 of docs has no vector in embedding" in run("import", "plain.db:docs", "copy.db", "more")[2]


def test_rows_are_added_to_a_table_that_is_there(run: Run) -> None:
    np.save("rows.npy", ROWS)
    ok(run, "import", "rows.npy", "items.db", "items")
    assert "row 0 exists" in run("import", "rows.npy", "items.db", "items")[2]
    ok(run, "import", "rows.npy", "items.db", "items", "--replace")
    assert len(table()) == 300
    assert "items exists" in run("import", "rows.npy", "items.db", "items", "--metric", "cosine")[2]
    np.save("rows.npy", ROWS[:, :5])
    assert "have 5 dimensions, those of items 8" in run("import", "rows.npy", "items.db", "items")[2]


def test_sources_that_are_none_are_named(run: Run) -> None:
    Path("rows.txt").write_text("1 2")
    np.save("cube.npy", np.zeros((2, 2, 2)))
    for source, words in [
        ("nothing.npy", "there is no file nothing.npy; a source is .npy"),
        ("rows.txt", "rows.txt: a source is .npy"),
        ("cube.npy", "a matrix of numbers is expected, got float64 of shape (2, 2, 2)"),
    ]:
        code, out, err = run("import", source, "items.db", "items")
        assert (code, out) == (1, "") and words in err
    assert not Path("items.db").exists()


@pytest.fixture
def trained(run: Run) -> Table:
    np.save("rows.npy", random(3000, 8))
    np.save("queries.npy", random(60, 8, 1))
    ok(run, "import", "rows.npy", "items.db", "items", "--option", "train_at=off")
    result = ok(run, "train", "items.db", "items", "--nlist", "32", "--seed", "5")
    assert (result["nlist"], result["rows"]) == (32, 3000)
    return table()


def test_tune_measures_recall_that_is_true_and_draws_it(run: Run, trained: Table) -> None:
    needs("matplotlib")
    files = ["report.html", "curve.svg", "curve.png"]
    outs = [part for file in files for part in ("-o", file)]
    report = ok(run, "tune", "items.db", "items", "--queries", "queries.npy", "--nprobe", "1,4,32", *outs, "--apply")
    recalls = {point["setting"]: point["recall"] for point in report["points"]}
    rows, queries = random(3000, 8), random(60, 8, 1)
    for nprobe in (1, 4, 32):
        ids = trained.search(queries, 10, nprobe=nprobe).ids
        exact = [nearest(rows, query, 10) for query in queries]
        assert recalls[f"nprobe={nprobe}"] == pytest.approx(
            np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids.tolist(), exact)])
        )
    assert recalls["nprobe=32"] == 1 and {"default", "recall_target=0.95"} <= set(recalls)
    assert sum(report["lists"]) == 3000 and report["best"]
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG") and "<svg" in Path("curve.svg").read_text()
    page = Path("report.html").read_text()
    assert page.count("<svg") == 1 and "nprobe=4" in page and report["best"] in page and "http" not in page.split("<svg")[0]
    trained.search(queries[:1], 10)
    kind, value = report["best"].split("=")
    if kind == "nprobe":
        assert trained.profile()["probe"][0] == int(value)


def test_tune_on_rows_leaves_each_row_out_of_its_own_answer(run: Run, trained: Table) -> None:
    report = ok(run, "tune", "items.db", "items", "--sample", "50", "--nprobe", "32", "--goal", "1")
    assert report["points"][0]["recall"] == 1 and report["best"] == "nprobe=32"
    code, out, _ = run("tune", "items.db", "items", "--sample", "50", "--nprobe", "1", "--recall-target", "", "--goal", "1")
    assert code == 0 and "no setting that was measured reaches recall 1" in out


def test_tune_of_an_untrained_table_says_that_there_is_nothing_to_tune(run: Run) -> None:
    np.save("rows.npy", ROWS)
    ok(run, "import", "rows.npy", "items.db", "items")
    code, _, err = run("tune", "items.db", "items")
    assert code == 1 and "items is not trained, so each search is exact" in err
    assert "a report is a .html, .svg or .png" in run("tune", "items.db", "items", "-o", "report.pdf")[2]


def test_stats_and_check_go_through_all_tables(run: Run, trained: Table) -> None:
    ok(run, "import", "queries.npy", "items.db", "other")
    stats = ok(run, "stats", "items.db", "--lists")
    assert set(stats) == {"items", "other"} and len(stats["items"]["lists"]) == 32
    assert ok(run, "check", "items.db") == {"damaged": False, "tables": {"items": [], "other": []}}
    assert run("check", "items.db")[:2] == (0, "items: no fault\nother: no fault\n")


def test_check_finds_damage_and_says_so_by_its_exit_code(run: Run, trained: Table) -> None:
    with trained.transaction():
        trained.connection.execute(
            "UPDATE items_vectors SET data = zeroblob(length(data)) WHERE segment = (SELECT max(segment) FROM items_vectors)"
        )
    code, out, _ = run("check", "items.db")
    assert code == 1 and "corrupt" in out and "items_vectors" in out


def test_wrong_command_lines_end_with_2_and_errors_with_1(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["launch"],
        ["search", "items.db"],
        ["import", "a", "b", "c", "--metric", "l3"],
        ["tune", "a", "b", "--nprobe", "x"],
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2
    capsys.readouterr()
    assert run("stats", "nothing.db") == (1, "", "sqlite-ivf: there is no file nothing.db\n")
    assert not Path("nothing.db").exists()
    connect("empty.db").execute("CREATE TABLE t(x)")
    assert run("check", "empty.db")[2] == "sqlite-ivf: empty.db has no ivf table\n"


def test_the_module_runs_and_stops_when_nobody_reads_on(run: Run, trained: Table) -> None:
    command = f"{sys.executable} -m sqlite_ivf search items.db items rows.npy -k 100 | head -2"
    shell = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ})
    assert len(shell.stdout.splitlines()) == 2 and shell.stderr == ""
    for name in ("import", "search", "train", "tune", "stats", "check"):
        helped = subprocess.run([sys.executable, "-m", "sqlite_ivf", name, "--help"], capture_output=True, text=True, check=True)
        assert name in helped.stdout
