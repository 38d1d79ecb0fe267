"""Shards: against one table and brute force, while rows move, while workers and writers die."""

from __future__ import annotations

import os
import random as chance
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

import sqlite_ivf
from conftest import random
from sqlite_ivf import Table
from sqlite_ivf._store import connected, fetched
from sqlite_ivf.shards import FencedError, ShardLostError, Shards, collection, placement
from sqlite_ivf.shards.operations import run

# What Dask and its event loops leave behind is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Seconds that the tests with random kills take, each.
LONG = float(os.environ.get("SQLITE_IVF_SHARDS_SECONDS", "3"))
SEED = int(os.environ.get("SQLITE_IVF_SHARDS_SEED", "0"))
DIM = 8
COLUMNS = {"year": "INTEGER", "lang": "TEXT", "+title": "TEXT"}

Rows = Dict[int, Tuple[Any, int]]


def metadata(ids: Any) -> Dict[str, Any]:
    return {
        "year": [2000 + i % 25 for i in ids],
        "lang": [["en", "de", None][i % 3] for i in ids],
        "title": [f"row {i}" for i in ids],
    }


def brute(
    rows: Dict[int, NDArray[Any]], queries: NDArray[Any], k: int, keep: Callable[[int], bool] = lambda _: True
) -> List[List[int]]:
    """The ids of the nearest rows by comparing with all, ties by id."""
    ids = np.array(sorted(id for id in rows if keep(id)), np.int64)
    if not len(ids):
        return [[] for _ in queries]
    matrix = np.stack([rows[int(id)] for id in ids]).astype(np.float64)
    distances = ((matrix[None] - queries.astype(np.float64)[:, None]) ** 2).sum(axis=2)
    return [ids[np.lexsort((ids, line))[:k]].tolist() for line in distances]


def found(hits: Any) -> List[List[int]]:
    return [[int(id) for id, distance in zip(*line) if np.isfinite(distance)] for line in zip(hits.ids, hits.distances)]


def whole(n: int, seed: int) -> NDArray[Any]:
    """Vectors of small whole numbers: many equal distances, all of them exact in float32."""
    return np.random.default_rng(seed).integers(-3, 4, (n, DIM)).astype(np.float32)


def contents(shards: Shards) -> Dict[str, List[int]]:
    """The ids in each file, read from the files."""
    ids = {}
    for name in shards._catalogue.layout().shards:
        connection = connected(os.path.join(shards.path, f"shard-{name}.db"))
        ids[name] = [row[0] for row in fetched(connection, "SELECT rowid FROM items ORDER BY rowid")]
        connection.close()
    return ids


def everything(shards: Shards) -> List[int]:
    """The ids in all files; one that is in two of them is there twice."""
    return sorted(id for ids in contents(shards).values() for id in ids)


# In this process


def test_placement_is_the_same_for_ever() -> None:
    ids = [-(2**63), -1, 0, 1, 2, 1000, 2**62, 2**63 - 1]
    assert placement(ids, ["0", "1", "2", "3"]).tolist() == [2, 2, 3, 0, 2, 2, 2, 2]  # computed without NumPy


def test_one_more_name_takes_its_share_of_rows_and_moves_no_other_one() -> None:
    ids = np.arange(40_000)
    before, after = placement(ids, list("0123")), placement(ids, list("01234"))
    moved = before != after
    assert (after[moved] == 4).all()
    assert (abs(np.bincount(after) - 8000) < 400).all() and (abs(np.bincount(before[moved]) - 2000) < 250).all()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16", "int8", "bit"])
def test_answers_are_those_of_one_table(tmp_path: Path, element: str, n: int) -> None:
    vectors = whole(1500, 1) if element != "bit" else (whole(1500, 1) > 0).astype(np.uint8)
    ids = np.random.default_rng(2).choice(2**40, len(vectors), replace=False) - 2**39
    one = Table.create(sqlite_ivf.connect(), "one", DIM, element=element, columns=COLUMNS)
    one.add(vectors, ids, metadata(ids.tolist()))
    with Shards.create(tmp_path / "c", n, DIM, element=element, columns=COLUMNS) as shards:
        assert (shards.insert(vectors, ids, metadata(ids.tolist())) == ids).all()
        one.train(nlist=20)
        shards.train(nlist=7)
        asked: List[Tuple[Any, Optional[int], Dict[str, Any]]] = [
            (vectors[:20], 10, {}),
            (vectors[:20], 2000, {}),
            (vectors[:2], 10_000, {}),
            (vectors[5], 10**9, {}),
            (vectors[5], 7, {"where": {"year": [2001, 2003], "lang": "en"}}),
            (vectors[:3], 9, {"where": "year > ? AND lang IS NULL", "values": (2020,)}),
            (vectors[:9], 50, {"where": {"rowid": ids[:30]}}),
            (vectors[:9], 5, {"where": {"year": 1}}),
            (vectors[:2], None, {"within": 3.0}),
            (vectors[:0], 5, {}),
        ]
        for queries, k, keywords in asked:
            got, expected = shards.search(queries, k, nprobe=-1, **keywords), one.search(queries, k, nprobe=-1, **keywords)
            assert got.ids.shape == expected.ids.shape
            assert (got.ids == expected.ids).all() and (got.distances == expected.distances).all()
        assert shards.get(ids[:40], "rowid", "title", "year") == one.get(ids[:40], "rowid", "title", "year")
        assert (shards.vectors(ids[:40]) == one.vectors(ids[:40])).all()
        assert len(shards) == len(one)
        assert [each["rows"] for each in shards.stats()] == [len(each) for each in contents(shards).values()]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l1"])
def test_metrics_merge(tmp_path: Path, metric: str) -> None:
    vectors = random(600, DIM)
    one = Table.create(sqlite_ivf.connect(), "one", DIM, metric=metric, model="m")
    one.add(vectors, np.arange(600))
    with Shards.create(tmp_path / "c", 3, DIM, metric=metric, model="m") as shards:
        shards.insert(vectors, np.arange(600))
        got, expected = shards.search(vectors[:9], 12), one.search(vectors[:9], 12)
        assert (got.ids == expected.ids).all() and (got.distances == expected.distances).all()
        with pytest.raises(Exception, match="model"):
            shards.search(vectors[0], model="other")


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_random_steps_agree_with_a_model(tmp_path: Path, seed: int) -> None:
    dice = chance.Random(seed)
    model: Dict[int, NDArray[Any]] = {}
    shards = Shards.create(tmp_path / "c", 2, DIM, columns=COLUMNS, copies=tmp_path / "copies")
    moving: Optional[Iterator[None]] = None
    for step in range(60):
        what = dice.choice(["insert", "insert", "delete", "search", "search", "add", "remove", "move", "move", "reopen", "copy"])
        if what == "insert":
            ids = dice.sample(range(400), dice.randrange(1, 60))
            vectors = whole(len(ids), dice.randrange(10**6))
            shards.insert(vectors, ids, metadata(ids))
            model.update(zip(ids, vectors))
        elif what == "delete":
            ids = dice.sample(range(400), dice.randrange(1, 40))
            assert shards.delete(ids) == len(model.keys() & set(ids))
            for id in ids:
                model.pop(id, None)
        elif what == "add" and moving is None and len(shards._catalogue.layout().shards) < 5:
            moving = stepwise(shards, dice.randrange(1, 20))
        elif what == "remove" and moving is None and len(shards._catalogue.layout().shards) > 1:
            moving = stepwise(shards, dice.randrange(1, 20), dice.choice(shards._catalogue.layout().names))
        elif what == "move" and moving is not None:
            try:
                next(moving)
            except StopIteration:
                moving = None
                shards.check()
        elif what == "reopen":
            shards.close()
            shards = Shards.open(tmp_path / "c")
            moving = None
            if shards._catalogue.layout().changed:
                moving = stepwise(shards, dice.randrange(1, 20))
        elif what == "copy":
            shards.copies = str(tmp_path / "copies")
            shards.copy()
        queries = whole(4, step)
        k = dice.choice([1, 5, 30, 500])
        assert found(shards.search(queries, k, nprobe=-1)) == brute(model, queries, k)
        even = found(shards.search(queries, k, where="year >= ?", values=(2012,), nprobe=-1))
        assert even == brute(model, queries, k, lambda id: 2000 + id % 25 >= 2012)
        assert len(shards) == len(model)
    shards.finish_move()
    shards.check()
    names = shards._catalogue.layout().names
    for name, there in contents(shards).items():
        assert there == [id for id in sorted(model) if names[placement([id], names)[0]] == name]
    shards.close()


def stepwise(shards: Shards, batch: int, removed: Optional[str] = None) -> Iterator[None]:
    """Begins to add or remove a shard, and moves one batch at each step."""
    count = 0

    def stop(_: Any) -> Optional[bool]:
        nonlocal count
        count += 1
        return False

    with suppress(InterruptedError):
        if removed is not None:
            shards.remove_shard(removed, batch=batch, progress=stop)
        else:
            (shards.finish_move if shards._catalogue.layout().changed else shards.add_shard)(batch=batch, progress=stop)

    def rest() -> Iterator[None]:
        while shards._catalogue.layout().changed:
            try:
                shards.finish_move(batch=batch, progress=stop)
            except InterruptedError:
                yield

    return rest()


def test_ids_and_values_that_do_not_fit_are_errors_that_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Shards.create"):
        Shards.open(tmp_path / "c")
    with pytest.raises(ValueError, match="1 shard or more, got 0"):
        Shards.create(tmp_path / "c", 0, DIM)
    with pytest.raises(ValueError, match="PRIMARY KEY"):
        Shards.create(tmp_path / "c", 2, DIM, columns={"key": "TEXT primary  key"})
    with pytest.raises(Exception, match="metric"):
        Shards.create(tmp_path / "c", 2, DIM, metric="l3")
    with pytest.raises(TypeError, match="Client"):
        Shards.create(tmp_path / "d", 2, DIM, client="tcp://127.0.0.1:1")
    with Shards.create(tmp_path / "c", 2, DIM, columns=COLUMNS) as shards:
        assert "2 shards of float32[8]" in repr(shards)
        with pytest.raises(FileExistsError, match="Shards.open"):
            Shards.create(tmp_path / "c", 2, DIM)
        with pytest.raises(ValueError, match="8 dimensions"):
            shards.insert(random(3, DIM + 1))
        with pytest.raises(ValueError, match="year: 1 values for 3 vectors"):
            shards.insert(random(3, DIM), metadata={"year": [1]})
        with pytest.raises(ValueError, match="no column 'yeer'.*year"):
            shards.insert(random(1, DIM), metadata={"yeer": [1]})
        with pytest.raises(TypeError, match="no 'per'.*nprobe"):
            shards.search(random(1, DIM), per="year")  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="k, or the largest distance"):
            shards.search(random(1, DIM), None)
        with pytest.raises(ValueError, match="no column 'yeer'"):
            shards.get([1], "yeer")
        with pytest.raises(LookupError, match="no row 1"):
            shards.get([1], "year")
        with pytest.raises(ValueError, match="copies=FOLDER"):
            shards.copy()
        with pytest.raises(ValueError, match="no shard '7'"):
            shards.restore("7")
        with pytest.raises(ValueError, match="1 row or more"):
            shards.finish_move(batch=0)
        # What one shard refuses leaves the collection as it can be used.
        with pytest.raises(Exception, match="year"):
            shards.insert(random(2, DIM), [1, 2], {"year": [1, "x"]})
        assert shards.insert(random(2, DIM), metadata={"year": [1, 2]}).tolist() == [3, 4]
        assert shards.insert(random(1, DIM), [2**63 - 1]).tolist() == [2**63 - 1]
        with pytest.raises(ValueError, match="no free ones"):
            shards.insert(random(1, DIM))
        shards.check()


def test_progress_is_told_and_ends_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_TASK_BYTES", 4000)
    told: List[Any] = []
    with Shards.create(tmp_path / "c", 2, DIM) as shards:
        shards.insert(random(1000, DIM), progress=lambda now: told.append(now))
        assert len(told) > 3 and told[-1][:4] == ("insert", "rows", 1000, 1000) and told[-1].fraction == 1
        with pytest.raises(InterruptedError, match="of 1000 rows are done"):
            shards.insert(random(1000, DIM), progress=lambda now: now.done < 200)
        assert 1200 <= len(shards) < 1500
        assert found(shards.search(random(50, DIM), 100)) == found(shards.search(random(50, DIM), 100, nprobe=-1))
        shards.train(progress=lambda now: told.append(now))
        assert told[-1][:4] == ("train", "shards", 2, 2)
        shards.insert(random(10, DIM), progress=True)


def test_settings_reach_the_shards_to_come(tmp_path: Path) -> None:
    with Shards.create(tmp_path / "c", 2, DIM) as shards:
        shards.insert(random(4500, DIM))
        shards.set(nprobe=3)
        shards.add_shard(batch=5000)
        assert [each["settings"] for each in shards.stats()] == ["nprobe=3"] * 3
        shards.train()
        shards.optimize()
        shards.calibrate(random(10, DIM) * 2)


def test_a_writer_that_comes_late_changes_nothing_and_a_repeated_task_gives_its_answer_again(tmp_path: Path) -> None:
    with Shards.create(tmp_path / "c", 1, DIM) as shards:
        shards.insert(whole(5, 0), range(5))
        with shards._writing() as writer:
            late = writer.step + 1
            assert shards._write(writer, {"0": ("delete", np.array([0, 1, 77]))})["0"].tolist() == [2]
        want = shards._catalogue.layout().shards["0"]
        assert run(want, "delete", late, np.array([0, 1, 77])).tolist() == [2]
        shards.insert(whole(1, 1), [9])
        with pytest.raises(FencedError, match="later writer"):
            run(want, "delete", late, np.array([2]))
        assert len(shards) == 4
        # A writer that ended in the middle: the next one fences all shards, also those that it does not write to.
        with pytest.raises(KeyError), shards._writing() as writer:
            late = writer.step + 1
            raise KeyError
        assert len(shards) == 4
        with pytest.raises(FencedError):
            run(want, "delete", late, np.array([2]))


def test_one_writer_at_a_time_of_all_processes(tmp_path: Path) -> None:
    with Shards.create(tmp_path / "c", 1, DIM) as shards, Shards.open(tmp_path / "c", timeout=0.2) as other:
        with shards._writing():
            with pytest.raises(TimeoutError, match="another writer has held"):
                other.insert(whole(1, 0))
            other.search(whole(1, 0))
        assert other.insert(whole(1, 0)).tolist() == [1]


def test_a_file_that_is_gone_comes_back_from_its_copy_unless_that_lacks_writes(tmp_path: Path) -> None:
    vectors = whole(200, 0)
    with Shards.create(tmp_path / "c", 3, DIM, copies=tmp_path / "copies") as shards:
        shards.insert(vectors, range(200))
        expected = found(shards.search(vectors[:5], 20))
        shards.copy()
        os.remove(tmp_path / "c" / "shard-1.db")
        assert found(shards.search(vectors[:5], 20)) == expected
        # An older file in the place of the right one is not believed.
        shards.delete([0])
        shards.copy()
        older = (tmp_path / "copies" / "shard-1.db").read_bytes()
        one = contents(shards)["1"]
        shards.delete(one[:1])
        for file in (tmp_path / "c").glob("shard-1.db*"):
            file.unlink()
        (tmp_path / "c" / "shard-1.db").write_bytes(older)
        with pytest.raises(ShardLostError, match="lacks writes up to step"):
            shards.search(vectors[:5])
        shards.restore("1", stale=True)
        assert contents(shards)["1"] == one
        # All copies together are a collection.
        shards.delete(one[:1])
        shards.copy()
        with Shards.open(tmp_path / "copies") as copied:
            assert found(copied.search(vectors[:5], 20)) == found(shards.search(vectors[:5], 20))
            copied.check()

        def fetch(name: str, path: str) -> None:
            Path(path).write_bytes((tmp_path / "copies" / f"shard-{name}.db").read_bytes())

        (tmp_path / "c" / "shard-2.db").unlink()
        with Shards.open(tmp_path / "c", fetch=fetch) as other:
            assert found(other.search(vectors[:5], 20)) == found(shards.search(vectors[:5], 20))


# Rows that move


CHILD = """
import os, sys
from sqlite_ivf.shards import Shards, catalogue, collection, files, operations
path, left = sys.argv[1], int(sys.argv[2])
original = files.fetched
def counted(*args):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
    return original(*args)
with Shards.open(path) as shards:
    for module in (catalogue, collection, files, operations):
        module.fetched = counted
    layout = shards._catalogue.layout()
    if layout.changed:
        shards.finish_move(batch=40)
    elif len(layout.shards) > 3:
        shards.remove_shard(layout.names[left % len(layout.shards)], batch=40)
    else:
        shards.add_shard(batch=40)
"""


def test_a_move_killed_at_any_statement_goes_on_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    dice = chance.Random(SEED)
    vectors = whole(600, 0)
    model = dict(enumerate(vectors))
    kills, deadline = 0, time.monotonic() + 2 * LONG
    with Shards.create(tmp_path / "c", 2, DIM, columns=COLUMNS) as shards:
        shards.insert(vectors, range(600), metadata(range(600)))
        while time.monotonic() < deadline:
            child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "c"), str(dice.randrange(1, 150))])
            assert child.returncode in (0, -9)
            kills += child.returncode != 0
            queries = whole(5, kills)
            assert found(shards.search(queries, 30, nprobe=-1)) == brute(model, queries, 30)
            assert len(shards) == 600
            some = dice.sample(range(600), 20)  # which may be on their way
            changed = whole(20, dice.randrange(1000))
            shards.insert(changed, some, metadata(some))
            model.update(zip(some, changed))
            assert found(shards.search(queries, 30, nprobe=-1)) == brute(model, queries, 30)
        shards.finish_move()
        shards.check()
        assert everything(shards) == list(range(600))
    assert kills


def watched(
    shards: Shards, model: Dict[int, NDArray[Any]], until: threading.Event, failures: List[BaseException], counts: List[int]
) -> None:
    """Compares answers about rows that do not change, which have an even year, with brute force."""
    try:
        step = 0
        while not until.is_set():
            step += 1
            queries = whole(4, step)
            k = 1 + step % 40
            got = shards.search(queries, k, where="year IN (2000, 2002, 2004, 2006, 2008)", nprobe=-1)
            assert found(got) == brute(model, queries, k, lambda id: id % 25 in (0, 2, 4, 6, 8))
        counts.append(step)
    except BaseException as error:
        failures.append(error)


@contextmanager
def checking(shards: Shards, model: Dict[int, NDArray[Any]], threads: int = 2) -> Iterator[List[int]]:
    until, failures, counts = threading.Event(), [], []  # type: ignore[var-annotated]
    running = [threading.Thread(target=watched, args=(shards, model, until, failures, counts)) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield counts
    finally:
        until.set()
        for thread in running:
            thread.join()
    if failures:
        raise failures[0]


def test_a_shard_that_was_removed_is_not_there_any_more(tmp_path: Path) -> None:
    vectors = whole(300, 0)
    with Shards.create(tmp_path / "c", 3, DIM, columns=COLUMNS, copies=tmp_path / "copies") as shards:
        shards.insert(vectors, range(300), metadata(range(300)))
        before = contents(shards)
        shards.copy()
        with pytest.raises(ValueError, match=r"no shard '7', there are \['0', '1', '2'\]"):
            shards.remove_shard("7")
        next(stepwise(shards, 10, "2"))
        assert "3 shards of float32[8], rows leave shard 2" in repr(shards)
        for wrong in (shards.add_shard, lambda: shards.remove_shard("0")):
            with pytest.raises(RuntimeError, match=r"rows leave shard 2 still: finish_move\(\) moves the rest"):
                wrong()
        # What has left, what is still there and what is new: each is replaced, deleted and read where it is.
        some = before["2"]
        left = sorted(set(some) - set(contents(shards)["2"]))
        assert 0 < len(left) < len(some)
        shards.insert(vectors[some] + 1, some, metadata(some))
        assert shards.delete([left[0], some[-1], 999]) == 2
        assert shards.insert(vectors[:1], [1000]).tolist() == [1000]
        assert (shards.vectors(some[1:-1]) == vectors[some[1:-1]] + 1).all() and shards.get([1000], "rowid") == [(1000,)]
        shards.finish_move()
        shards.check()
        after = contents(shards)
        assert list(after) == ["0", "1"] and len(shards) == 299
        assert all(set(before[name]) <= set(after[name]) for name in after), "a row of another shard moved"
        assert not (tmp_path / "c" / "shard-2.db").exists()
        # Its copy is that of no shard: neither one more, nor one that is lost, begins with its rows.
        assert shards.add_shard() == "3"
        assert everything(shards) == sorted({*range(300), 1000} - {left[0], some[-1]})
        shards.remove_shard("0")
        shards.remove_shard("3")
        with pytest.raises(ValueError, match="1 shard or more: '1' is the only one"):
            shards.remove_shard("1")
        assert len(shards) == 299 and list(contents(shards)) == ["1"]
        shards.check()


def test_shards_are_added_and_removed_while_others_search_and_write(tmp_path: Path) -> None:
    vectors = whole(800, 0)
    fixed = dict(enumerate(vectors))
    with Shards.create(tmp_path / "c", 2, DIM, columns=COLUMNS) as shards, Shards.open(tmp_path / "c") as other:
        shards.insert(vectors, range(800), metadata(range(800)))
        loose = {id: vector for id, vector in fixed.items() if id % 2 and id % 25 > 8}
        with checking(shards, fixed):
            for batch in (17, 100):
                mover = threading.Thread(target=other.add_shard, kwargs={"batch": batch})
                mover.start()
                writes = 0
                while mover.is_alive():
                    some = chance.Random(writes).sample(sorted(loose), 5)
                    loose.update(zip(some, whole(5, writes)))
                    shards.insert(np.stack([loose[id] for id in some]), some, metadata(some))
                    writes += 1
                mover.join()
                assert writes > 3
            for name, batch in (("1", 17), ("3", 100)):
                mover = threading.Thread(target=other.remove_shard, args=(name,), kwargs={"batch": batch})
                mover.start()
                writes = 0
                while mover.is_alive():
                    some = chance.Random(writes).sample(sorted(loose), 5)
                    loose.update(zip(some, whole(5, writes + 100)))
                    shards.insert(np.stack([loose[id] for id in some]), some, metadata(some))
                    assert [row[0] for row in shards.get(some, "rowid")] == some
                    writes += 1
                mover.join()
                assert writes > 3
        shards.check()
        assert len(shards) == 800 and list(contents(shards)) == ["0", "2"]
        assert sorted(path.name for path in (tmp_path / "c").glob("shard-*")) == sorted(
            path.name for path in (tmp_path / "c").glob("shard-[02].db*")
        )
        assert found(shards.search(whole(9, 1), 50, nprobe=-1)) == brute({**fixed, **loose}, whole(9, 1), 50)


# Workers


def test_the_program_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    page = Path(__file__).resolve().parents[2] / "docs" / "scale-out.md"
    if not page.exists():
        pytest.skip("the pages are in the source tree only")
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(program.splitlines()) <= 40
    (tmp_path / "program.py").write_text(program)
    ran = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    expected = [line.split("  # ")[1] for line in program.splitlines() if "print(" in line and "  # " in line]
    assert expected == ran.stdout.splitlines()


@contextmanager
def machine(scheduler: str, folder: Path, root: Optional[Path] = None) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, which nobody restarts; with files of its own under a root."""
    options = ["--no-nanny", "--no-dashboard", "--nthreads", "2", "--host", "127.0.0.1", "--local-directory", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, *options],
        env={**os.environ, **({"SQLITE_IVF_SHARDS": str(root)} if root else {})},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Supervisor:
    """Workers that are started again when they have ended, as by an operating system. A nanny of Dask does not do that for a worker
    which is killed while it starts.
    """

    def __init__(self, scheduler: str, folder: Path, count: int) -> None:
        self.running: List[subprocess.Popen[bytes]] = []
        self.ending = threading.Event()

        def keep(number: int) -> None:
            while not self.ending.is_set():
                with machine(scheduler, folder / str(number)) as process:
                    self.running.append(process)
                    while process.poll() is None and not self.ending.wait(0.02):
                        pass
                    self.running.remove(process)

        self.threads = [threading.Thread(target=keep, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    @contextmanager
    def killing(self, seed: int) -> Iterator[List[int]]:
        """Kills workers at random, sometimes all."""
        dice, until = chance.Random(seed), threading.Event()
        kills: List[int] = []

        def go() -> None:
            while not until.wait(dice.uniform(0.1, 2.5)):
                running = list(self.running)
                for process in running if dice.random() < 0.1 else dice.sample(running, min(1, len(running))):
                    process.kill()
                    kills.append(process.pid)

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield kills
        finally:
            until.set()
            thread.join()


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def workers(scheduler: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    workers = Supervisor(scheduler.scheduler.address, tmp_path_factory.mktemp("dask"), 3)
    try:
        scheduler.wait_for_workers(3, timeout=120)
        yield workers
    finally:
        workers.close()


def test_every_answer_is_right_while_workers_are_killed(tmp_path: Path, scheduler: Any, workers: Supervisor) -> None:
    dice = chance.Random(SEED)
    model: Dict[int, NDArray[Any]] = {}
    steps = 0
    with Shards.create(tmp_path / "c", 4, DIM, client=scheduler, columns=COLUMNS) as shards:
        deadline = time.monotonic() + 2 * LONG
        with workers.killing(SEED) as kills:
            while time.monotonic() < deadline or not kills:
                steps += 1
                if dice.random() < 0.3:
                    ids = dice.sample(range(500), dice.randrange(1, 80))
                    vectors = whole(len(ids), dice.randrange(10**6))
                    shards.insert(vectors, ids, metadata(ids))
                    model.update(zip(ids, vectors))
                elif dice.random() < 0.2:
                    ids = dice.sample(range(500), 30)
                    assert shards.delete(ids) == len(model.keys() & set(ids))
                    for id in ids:
                        model.pop(id, None)
                queries, k = whole(3, steps), dice.choice([1, 10, 100])
                assert found(shards.search(queries, k, nprobe=-1)) == brute(model, queries, k)
                some = found(shards.search(queries, k, where={"year": [2001, 2002]}, nprobe=-1))
                assert some == brute(model, queries, k, lambda id: id % 25 in (1, 2))
        assert len(shards) == len(model)
        shards.check()
        assert everything(shards) == sorted(model)


def test_shards_come_and_go_under_load_while_workers_are_killed(tmp_path: Path, scheduler: Any, workers: Supervisor) -> None:
    vectors = whole(800, 0)
    model = dict(enumerate(vectors))
    distributed = pytest.importorskip("distributed")
    with (
        distributed.Client(scheduler.scheduler.address, direct_to_workers=True, set_as_default=False) as client,
        Shards.create(tmp_path / "c", 3, DIM, client=client, columns=COLUMNS) as shards,
    ):
        shards.insert(vectors, range(800), metadata(range(800)))
        with checking(shards, model) as counts, workers.killing(SEED + 1) as kills:
            while not kills:
                shards.add_shard(batch=15)
                shards.add_shard(batch=15)
                shards.remove_shard(shards._catalogue.layout().names[0], batch=15)
        shards.check()
        assert everything(shards) == list(range(800))
        assert kills and min(counts) > 0
        with pytest.raises(Exception, match="nope") as raised:
            shards.search(vectors[0], where="nope = 1")
        assert type(raised.value).__name__ in ("OperationalError", "SQLError")
        scheduler.wait_for_workers(3, timeout=120)
        shards._workers._looked = float("-inf")  # type: ignore[attr-defined]
        shards.stats()
        assert len({each["worker"] for each in shards.stats()}) == 3


def test_a_shard_goes_to_another_machine_when_its_own_is_gone(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    vectors = whole(300, 0)
    model = dict(enumerate(vectors))
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        address, a, b = cluster.scheduler_address, tmp_path / "a", tmp_path / "b"
        with machine(address, tmp_path / "0", a) as first, machine(address, tmp_path / "1", b):
            client.wait_for_workers(2, timeout=120)
            with Shards.create(tmp_path / "c", 4, DIM, client=client, copies=tmp_path / "copies", restore_after=0.5) as shards:
                shards.insert(vectors, range(300))
                assert [len(list((each / "c").glob("*.db"))) for each in (a, b)] == [2, 2]
                assert not list((tmp_path / "c").glob("shard-*"))
                shards.copy()
                first.kill()
                assert found(shards.search(vectors[:9], 20)) == brute(model, vectors[:9], 20)
                assert len(list((b / "c").glob("*.db"))) == 4
                shards.insert(whole(50, 5), range(50))
                model.update(zip(range(50), whole(50, 5)))
                with machine(address, tmp_path / "2", a):  # comes back, with files of before
                    client.wait_for_workers(2, timeout=120)
                    shards._workers._looked = float("-inf")  # type: ignore[attr-defined]
                    for _ in range(3):
                        assert found(shards.search(vectors[:9], 20)) == brute(model, vectors[:9], 20)
                    assert len(shards) == 300
