"""SQLAlchemy's own engines, sessions, reflection and migrations on ivf tables."""

from __future__ import annotations

import asyncio
import datetime
import re
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, List, Optional

import numpy as np
import pytest

from conftest import nearest, random

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    pytest.skip("SQLAlchemy uses the sqlite3 module, which cannot load extensions here", allow_module_level=True)
pytest.importorskip("sqlalchemy", "2.0")

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, CompileError, IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, joinedload, mapped_column, relationship
from sqlalchemy.schema import CreateTable, DropTable

from sqlite_ivf.sqlalchemy import Vector, compare_type, include_object, index, load, render_item

VECTORS = random(300, 8)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    __table_args__: ClassVar[Any] = {"sqlite_ivf": {"auxiliary": ["title"], "train_at": "off"}}
    id: Mapped[int] = mapped_column(primary_key=True)
    embedding: Mapped[Any] = mapped_column(Vector(8, metric="cosine"))
    year: Mapped[Optional[int]]
    lang: Mapped[Optional[str]] = mapped_column(String(2))
    live: Mapped[Optional[bool]]
    day: Mapped[Optional[datetime.date]]
    title: Mapped[Optional[str]]


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    docs: Mapped[List[Doc]] = relationship(back_populates="author")


class Doc(Base):
    __tablename__ = "docs"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    lang: Mapped[str]
    embedding: Mapped[Optional[Any]] = mapped_column(Vector(8))
    author_id: Mapped[Optional[int]] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Optional[Author]] = relationship(back_populates="docs")


near = index("docs_near", Doc.embedding, Doc.lang)


def item(i: int, **values: Any) -> Dict[str, Any]:
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=i)
    row = {"id": i, "embedding": VECTORS[i], "year": 2000 + i % 25, "lang": ["en", "de", "fr"][i % 3], "live": i % 2 == 0}
    return {**row, "day": day, "title": f"item {i}", **values}


@pytest.fixture
def engine() -> Iterator[Any]:
    engine = create_engine("sqlite://")
    load(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Any) -> Iterator[Session]:
    with Session(engine) as session:
        session.execute(insert(Item), [item(i) for i in range(300)])
        session.commit()
        yield session


def expected(query: Any, k: int, which: Any = None, metric: str = "cosine") -> List[int]:
    ids = [i for i in range(300) if which is None or which(i)]
    return [ids[at] for at in nearest(VECTORS[ids], query, k, metric)]


def ids_of(session: Session, *conditions: Any) -> List[int]:
    return list(session.scalars(select(Item.id).where(*conditions).order_by(Item.embedding.distance)))


# Searches


def test_a_search_gives_the_rows_and_distances_of_brute_force(session: Session) -> None:
    query = random(1, 8, 5)[0]
    statement = select(Item, Item.embedding.distance).where(Item.embedding.knn(query, k=7)).order_by(Item.embedding.distance)
    found = session.execute(statement).all()
    assert [row.Item.id for row in found] == expected(query, 7)
    cosine = [1 - float(VECTORS[r.Item.id] @ query / np.linalg.norm(VECTORS[r.Item.id]) / np.linalg.norm(query)) for r in found]
    assert [row.distance for row in found] == pytest.approx(cosine, abs=1e-6)
    assert found[0].Item.title == f"item {found[0].Item.id}" and found[0].Item.day == item(found[0].Item.id)["day"]


@pytest.mark.parametrize(
    ("conditions", "which"),
    [
        ([Item.year > 2020], lambda i: i % 25 > 20),
        ([Item.year.in_([2001, 2002])], lambda i: i % 25 in (1, 2)),
        ([Item.year.between(2003, 2004), Item.lang != "en"], lambda i: i % 25 in (3, 4) and i % 3 != 0),
        ([Item.live], lambda i: i % 2 == 0),
        ([~Item.live], lambda i: i % 2 == 1),
        ([Item.live.is_(False)], lambda i: i % 2 == 1),
        ([Item.day < datetime.date(2024, 1, 11)], lambda i: i < 10),
        ([Item.lang.like("d%")], lambda i: i % 3 == 1),
        ([or_(Item.lang == "de", Item.lang == "fr")], lambda i: i % 3 != 0),
        ([Item.id > 280], lambda i: i > 280),
        ([Item.id.in_([3, 4, 299])], lambda i: i in (3, 4, 299)),
        ([Item.lang.is_(None)], lambda i: False),
    ],
)
def test_conditions_are_part_of_the_search(session: Session, conditions: List[Any], which: Any) -> None:
    query = random(1, 8, 6)[0]
    assert ids_of(session, Item.embedding.knn(query, k=5), *conditions) == expected(query, 5, which)


@pytest.mark.parametrize(
    ("among", "which"),
    [
        (or_(Item.year == 2001, Item.lang == "de"), lambda i: i % 25 == 1 or i % 3 == 1),
        (Item.lang.not_in(["de", "fr"]), lambda i: i % 3 == 0),
        (Item.title == "item 77", lambda i: i == 77),
        ([5], lambda i: i == 5),
        (func.instr(Item.title, "7"), lambda i: "7" in str(i)),
        (np.arange(10, 20), lambda i: 10 <= i < 20),
        ([], lambda i: False),
        (select(Item.id).where(Item.title.in_(["item 8", "item 9"])), lambda i: i in (8, 9)),
    ],
)
def test_among_makes_any_condition_part_of_the_search(session: Session, among: Any, which: Any) -> None:
    query = random(1, 8, 7)[0]
    assert ids_of(session, Item.embedding.knn(query, k=4, among=among)) == expected(query, 4, which)
    other = aliased(Item)
    if isinstance(among, list):
        found = session.scalars(select(other.id).where(other.embedding.knn(query, k=4, among=among))).all()
        assert found == expected(query, 4, which)


def test_among_of_an_alias_is_about_the_alias(session: Session) -> None:
    query, other = random(1, 8, 7)[0], aliased(Item)
    statement = select(other.id).where(other.embedding.knn(query, k=4, among=or_(other.year == 2001, other.lang == "de")))
    assert session.scalars(statement).all() == expected(query, 4, lambda i: i % 25 == 1 or i % 3 == 1)


@pytest.mark.parametrize("taken", ["subquery", "cte", "alias", "scalar_subquery", "union", "query", "exists"])
def test_among_takes_every_form_of_a_select(session: Session, taken: str) -> None:
    query, keys = random(1, 8, 7)[0], select(Item.id).where(Item.year == 2020)
    other = aliased(Item)
    among: Any = {
        "subquery": keys.subquery,
        "cte": keys.cte,
        "alias": lambda: keys.subquery().alias("again"),
        "scalar_subquery": keys.scalar_subquery,
        "union": lambda: keys.union(keys).subquery(),
        "query": lambda: session.query(Item.id).filter(Item.year == 2020),
        "exists": lambda: select(other.id).where(other.id == Item.id, other.year == 2020).exists(),
    }[taken]()
    assert ids_of(session, Item.embedding.knn(query, k=4, among=among)) == expected(query, 4, lambda i: i % 25 == 20)


def test_among_takes_a_boolean_column(session: Session) -> None:
    query = random(1, 8, 7)[0]
    for among in (Item.live, Item.__table__.c.live):
        assert ids_of(session, Item.embedding.knn(query, k=4, among=among)) == expected(query, 4, lambda i: i % 2 == 0)


def test_among_of_several_columns_is_an_error() -> None:
    pairs = select(Item.id, Item.year)
    for among in (pairs, pairs.subquery(), pairs.cte(), Item.__table__):
        with pytest.raises(ArgumentError, match="knn: among is a SELECT of one column, the keys, got columns id, .*year"):
            Item.embedding.knn(VECTORS[0], k=3, among=among)
    with pytest.raises(ArgumentError, match=r"knn: among is a list of keys, got \(1, 2\) in it"):
        Item.embedding.knn(VECTORS[0], k=3, among=[(1, 2)])


@pytest.mark.parametrize(
    ("column", "condition", "named"),
    [
        (aliased(Item).embedding, Item.year == 2020, "items.year"),
        (Item.embedding, or_(Item.year == 2020, aliased(Item, name="two").lang == "de"), "two.lang"),
        (Item.embedding, func.lower(Author.name) == "o1", "authors.name"),
        (near.c.embedding, Doc.lang == "en", "docs.lang"),
        (near.c.embedding, (near.c.id == Doc.id) & (near.c.lang == "en"), "docs.id"),
        (Item.embedding, select(Item.id).where(Item.year == 2020).subquery("keys").c.id, "keys.id"),
    ],
)
def test_a_condition_in_among_on_another_table_is_an_error(column: Any, condition: Any, named: str) -> None:
    message = rf"knn: among is a condition on .*, and {named} is no column of it: write a SELECT of keys, select\(.*\).where\(...\)"
    with pytest.raises(ArgumentError, match=message):
        column.knn(VECTORS[0], k=3, among=condition)


def test_a_select_in_among_may_be_of_other_tables(docs: Session) -> None:
    docs.execute(insert(Item), [item(i) for i in range(300)])
    by_author = select(Doc.id).join(Author).where(Author.name == "Bob")
    wanted = expected(VECTORS[0], 3, lambda i: 0 < i < 100 and i % 3 == 1)
    for among in (by_author, Item.id.in_(by_author), Item.id.in_(by_author.subquery().select()), by_author.cte()):
        assert ids_of(docs, Item.embedding.knn(VECTORS[0], k=3, among=among)) == wanted


def test_distances_bound_a_search(session: Session) -> None:
    query = VECTORS[9]
    everything = session.execute(
        select(Item.id, Item.embedding.distance).where(Item.embedding.knn(query, k=300)).order_by(Item.embedding.distance)
    ).all()
    bound = everything[20].distance
    assert ids_of(session, Item.embedding.knn(query, within=bound)) == [row.id for row in everything if row.distance <= bound]
    assert ids_of(session, Item.embedding.knn(query), Item.embedding.distance < bound) == [r.id for r in everything[:20]]


def test_settings_reach_the_search(session: Session) -> None:
    session.execute(text("INSERT INTO items(items) VALUES ('train:{\"nlist\": 10}')"))
    ids_of(session, Item.embedding.knn(VECTORS[0], k=3, nprobe=2))
    probed = session.execute(text("SELECT n FROM ivf_profile('items') WHERE stage = 'probe'")).scalar()
    assert probed == 2
    assert ids_of(session, Item.embedding.knn(VECTORS[0], k=9, nprobe=-1)) == expected(VECTORS[0], 9)
    assert ids_of(session, Item.embedding.knn(VECTORS[0], k=9, recall_target=1, max_codes=0)) == expected(VECTORS[0], 9)
    langs = session.scalars(select(Item.lang).where(Item.embedding.knn(VECTORS[0], k=3, per="lang"))).all()
    assert sorted(langs) == ["de", "en", "fr"]
    assert len(ids_of(session, Item.embedding.knn(VECTORS[0], k=3, per=("lang", 2)))) == 6
    assert len(ids_of(session, Item.embedding.knn(VECTORS[0], k=3, mmr=0.5))) == 3
    with pytest.raises(TypeError, match="unknown argument 'nprobes', expected one of nprobe"):
        Item.embedding.knn(VECTORS[0], k=3, nprobes=2)
    with pytest.raises(OperationalError, match="items has no model, got 'x'"):
        ids_of(session, Item.embedding.knn(VECTORS[0], k=3, model="x"))


def test_among_is_one_of_the_16_conditions_of_a_search_whatever_it_tests(session: Session) -> None:
    conditions = [Item.id != i for i in range(30)]
    search, wanted = Item.embedding.knn(VECTORS[0], k=3, among=and_(*conditions)), expected(VECTORS[0], 3, lambda i: i >= 30)
    assert ids_of(session, search) == wanted
    assert ids_of(session, search, *conditions[:13]) == wanted  # 16 with MATCH, k and among
    with pytest.raises(OperationalError, match="16"):
        ids_of(session, search, *conditions[:14])


@pytest.mark.parametrize("per", [Item.lang, Item.__table__.c.lang, aliased(Item).lang, "lang"])
def test_per_takes_a_column_or_its_name(session: Session, per: Any) -> None:
    langs = select(Item.lang).where(Item.embedding.knn(VECTORS[0], k=3, per=per))
    assert sorted(session.scalars(langs)) == ["de", "en", "fr"]
    for number in (2, np.int64(2)):
        assert len(ids_of(session, Item.embedding.knn(VECTORS[0], k=3, per=(per, number)))) == 6


@pytest.mark.parametrize(
    "per",
    [
        *(Doc.lang, near.c.lang, func.lower(Item.lang), Item.lang == "en", (Doc.lang, 2), 3, True, b"lang", (2, "lang")),
        *(("lang", *rest) for rest in [(), (2, 3), ("2",), (0,), (True,), (None,), (1.5,)]),
    ],
)
def test_any_other_per_is_an_error(per: Any) -> None:
    with pytest.raises(ArgumentError, match="knn: per is a column of items, its name, or a tuple of one and a number from 1, got "):
        Item.embedding.knn(VECTORS[0], k=3, per=per)


@pytest.mark.parametrize("within", ["x", "0.5", b"1", float("nan"), np.float32("nan"), True, [1], {}])
def test_within_is_a_number(within: Any) -> None:
    with pytest.raises(ArgumentError, match=re.escape(f"knn: within is a number, got {within!r}")):
        Item.embedding.knn(VECTORS[0], within=within)


def test_within_takes_every_number_and_expression(session: Session) -> None:
    bound = 0.4
    wanted = ids_of(session, Item.embedding.knn(VECTORS[9], within=bound))
    assert 1 < len(wanted) < 300
    other = select(literal(bound)).scalar_subquery()
    for within in (np.float64(bound), np.array(bound), Decimal("0.4"), literal(bound), text("0.4"), func.abs(-bound), other):
        assert ids_of(session, Item.embedding.knn(VECTORS[9], within=within)) == wanted
    statement = select(Item.id).where(Item.embedding.knn(VECTORS[9], within=bindparam("far"))).order_by(Item.embedding.distance)
    assert session.scalars(statement, {"far": bound}).all() == wanted
    assert len(ids_of(session, Item.embedding.knn(VECTORS[9], within=float("inf")))) == 300
    assert ids_of(session, Item.embedding.knn(VECTORS[9], within=0)) == [9]


@pytest.mark.parametrize("k", [2**63, -(2**63) - 1, 10**30])
def test_a_k_of_more_than_64_bits_is_an_error(k: int) -> None:
    with pytest.raises(ArgumentError, match=f"knn: k is a whole number of at most 64 bits, got {k}"):
        Item.embedding.knn(VECTORS[0], k=k)


def test_a_matrix_asks_many_queries_at_once(session: Session) -> None:
    queries = random(4, 8, 8)
    statement = select(Item.embedding.query_number, Item.id).where(Item.embedding.knn(queries, k=3), Item.year > 2010)
    found: Dict[int, List[int]] = {}
    for number, id in session.execute(statement.order_by(Item.embedding.query_number, Item.embedding.distance)):
        found.setdefault(number, []).append(id)
    assert found == {n: expected(query, 3, lambda i: i % 25 > 10) for n, query in enumerate(queries)}


def test_the_query_may_be_a_row_of_the_table(session: Session) -> None:
    other = aliased(Item)
    query = select(other.embedding).where(other.id == 17).scalar_subquery()
    assert ids_of(session, Item.embedding.knn(query, k=3)) == expected(VECTORS[17], 3)


def test_without_a_search_there_is_no_distance(session: Session) -> None:
    statement = select(Item.embedding.distance, Item.embedding.query_number).order_by(Item.embedding.distance)
    assert {tuple(row) for row in session.execute(statement)} == {(None, None)}


def test_two_searches_of_one_table_are_told_apart(session: Session) -> None:
    one, two = aliased(Item), aliased(Item, name="two")
    statement = select(one.id, two.id).where(
        one.embedding.knn(VECTORS[1], k=5), two.embedding.knn(VECTORS[1], k=5), one.id == two.id, one.year > 2000, two.year > 2000
    )
    found = [row[0] for row in session.execute(statement)]
    assert sorted(found) == sorted(expected(VECTORS[1], 5, lambda i: i % 25 > 0))


def test_a_statement_is_compiled_once_for_all_vectors_and_k(session: Session) -> None:
    seen = []

    def heard(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        seen.append(context.cache_hit.name)

    with session.connection() as connection:
        event.listen(connection, "before_cursor_execute", heard)
        for k in (3, 4, 5):
            ids_of(session, Item.embedding.knn(VECTORS[k], k=k), Item.year > 2000 + k)
    assert seen[1:] == ["CACHE_HIT"] * 2


def test_searches_work_in_subqueries_and_with_legacy_queries(session: Session) -> None:
    inner = select(Item.id, Item.embedding.distance.label("far")).where(Item.embedding.knn(VECTORS[2], k=6)).subquery()
    assert session.scalar(select(func.count()).select_from(inner)) == 6
    assert session.query(Item).filter(Item.embedding.knn(VECTORS[2], k=6)).count() == 6
    cte = select(Item.id).where(Item.embedding.knn(VECTORS[2], k=6)).cte()
    assert sorted(session.scalars(select(Item.id).join(cte, cte.c.id == Item.id))) == sorted(expected(VECTORS[2], 6))


def test_a_search_without_an_index_compares_all(session: Session) -> None:
    query = random(1, 8, 9)[0]
    order = Item.embedding.distance_to(query)
    assert list(session.scalars(select(Item.id).order_by(order).limit(5))) == expected(query, 5)
    order = Item.embedding.distance_to(query, "l1")
    assert list(session.scalars(select(Item.id).order_by(order).limit(5))) == expected(query, 5, None, "l1")
    with pytest.raises(ValueError, match="metric is one of l2, cosine, ip, l1, hamming, got 'cos'"):
        Item.embedding.distance_to(query, "cos")


# Vectors


@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16", "int8", "bit"])
@pytest.mark.parametrize("ivf", [True, False])
def test_vectors_come_back_as_they_were(element: str, ivf: bool) -> None:
    engine = create_engine("sqlite://")
    load(engine)
    metadata = MetaData()
    tables = [
        Table(result, metadata, Column("id", Integer, primary_key=True), Column("v", Vector(8, None, element, result)),
              sqlite_ivf=ivf)
        for result in ("numpy", "memoryview", "list")
    ]  # fmt: skip
    metadata.create_all(engine)
    values = [1, 0, 0, 1, 1, 0, 1, 1]
    with engine.begin() as connection:
        for table in tables:
            connection.execute(insert(table), [{"v": values}, {"v": np.array(values, np.float64)}, {"v": tuple(values)}])
            blob = connection.scalar(select(func.hex(table.c.v)))
            connection.execute(insert(table), [{"v": bytes.fromhex(blob)}, {"v": memoryview(bytes.fromhex(blob))}])
            assert connection.scalar(select(func.count(table.c.v.distinct()))) == 1
        arrays, views, lists = [connection.scalars(select(table.c.v)).all() for table in tables]
        assert [each.tolist() for each in arrays] == lists == [values] * 5
        assert all(isinstance(each, memoryview) for each in views)
        if element == "float32":
            assert views[0].tolist() == values and arrays[0].dtype == np.float32
        nothing = connection.scalar(select(tables[0].c.v.distance_to(values)))
        assert nothing == 0
        if ivf:
            assert connection.scalar(select(tables[0].c.id).where(tables[0].c.v.knn(values, k=1))) == 1


def test_json_in_an_ordinary_table_is_a_vector_too(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO docs(title, lang, embedding) VALUES ('a', 'en', '[1, 0, 0, 0, 0, 0, 0, 0.5]')"))
        assert connection.scalar(select(Doc.embedding)).tolist() == [1, 0, 0, 0, 0, 0, 0, 0.5]


def test_floats_are_a_view_of_what_sqlite_gave(session: Session) -> None:
    vector = session.scalar(select(Item.embedding))
    assert not vector.flags.writeable and not vector.flags.owndata


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "a vector of 8 dimensions is expected, got 2"),
        (np.zeros((2, 4)), r"a vector of 8 dimensions is expected, got an array of shape \(2, 4\)"),
        (b"12", r"a vector of 8 dimensions is expected \(float32: 32 bytes\), got 2 bytes"),
        ("[1]", "numbers, an array or a buffer, got '\\[1\\]'"),
        (5, "numbers, an array or a buffer, got 5"),
        (["a"] * 8, "elements of a vector are real numbers, got 'a'"),
    ],
)
def test_a_value_that_is_no_such_vector_is_an_error(session: Session, value: Any, message: str) -> None:
    with pytest.raises(StatementError, match=message):
        session.execute(insert(Item).values(id=1000, embedding=value))
    if getattr(value, "ndim", 1) != 2:  # which asks many queries
        with pytest.raises(StatementError, match=message):
            ids_of(session, Item.embedding.knn(value, k=1))


def test_types_are_checked_when_they_are_made() -> None:
    for arguments, message in (
        ((0,), "dim is a number from 1 to 16384, got 0"),
        (("3",), "dim is a number from 1 to 16384, got '3'"),
        ((3, "l3"), "metric is one of l2, cosine, ip, l1, hamming, got 'l3'"),
        ((3, "l2", "float8"), "element is one of float32, float16, bfloat16, int8, bit, got 'float8'"),
        ((3, "l2", "int8", "tuple"), "result is one of numpy, memoryview, list, got 'tuple'"),
    ):
        with pytest.raises(ValueError, match=message):
            Vector(*arguments)


def test_literal_vectors_are_sql() -> None:
    sql = (
        select(Item.id)
        .where(Item.embedding.knn([1] * 8, k=2))
        .compile(create_engine("sqlite://"), compile_kwargs={"literal_binds": True})
    )
    assert f"items.embedding MATCH x'{'0000803f' * 8}' AND items.k = 2" in str(sql)


# Rows


def test_sessions_write_change_and_delete(engine: Any) -> None:
    with Session(engine) as session:
        rows = [Item(embedding=VECTORS[i], year=i, title=f"t{i}") for i in range(5)]
        session.add_all(rows)
        session.commit()
        assert [row.id for row in rows] == [1, 2, 3, 4, 5]  # given by the table, read back without RETURNING
        rows[0].embedding = VECTORS[100]
        rows[1].year = 99
        session.delete(rows[2])
        session.commit()
        assert ids_of(session, Item.embedding.knn(VECTORS[100], k=1)) == [1]
        assert session.get_one(Item, 2).year == 99
        assert session.get(Item, 3) is None
        assert session.execute(update(Item).where(Item.year > 2).values(lang="xx")).rowcount == 3
        assert session.execute(delete(Item).where(Item.lang == "xx")).rowcount == 3
        assert session.scalars(select(Item.id)).all() == [1]


def test_a_vector_that_is_set_to_itself_writes_nothing(engine: Any) -> None:
    written = []
    with Session(engine) as session:
        row = Item(embedding=VECTORS[0])
        session.add(row)
        session.commit()
        event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, *_: written.append(sql))
        row.embedding = row.embedding.tolist()
        session.commit()
        assert not [sql for sql in written if sql.startswith("UPDATE")]
        row.embedding = VECTORS[1]
        session.commit()
        assert [sql for sql in written if sql.startswith("UPDATE")]


def test_many_rows_go_in_at_once(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(insert(Item), [item(i) for i in range(200)])  # executemany
        values = [{name: value for name, value in item(i).items() if name != "id"} for i in range(200, 300)]
        connection.execute(insert(Item).values(values))  # one statement with many rows
        assert connection.scalar(select(func.count()).select_from(Item)) == 300
        assert connection.scalars(select(Item.id).order_by(Item.id)).all()[-1] == 299
        found = connection.execute(select(Item.id).where(Item.embedding.knn(VECTORS[250], k=1))).scalar()
        assert found == 250


def test_rollbacks_and_savepoints_are_followed(engine: Any) -> None:
    with Session(engine) as session:
        session.execute(insert(Item), [item(i) for i in range(10)])
        session.commit()
        session.execute(insert(Item), [item(10)])
        assert ids_of(session, Item.embedding.knn(VECTORS[10], k=1)) == [10]
        session.rollback()
        assert ids_of(session, Item.embedding.knn(VECTORS[10], k=100)) == expected(VECTORS[10], 100, lambda i: i < 10)
        session.execute(insert(Item), [item(20)])
        with pytest.raises(IntegrityError, match="UNIQUE constraint failed: items.rowid"), session.begin_nested():
            session.execute(insert(Item), [item(21)])
            session.execute(insert(Item), [item(20)])
        session.commit()
        assert sorted(session.scalars(select(Item.id))) == [*range(10), 20]


def test_or_replace_is_a_prefix(session: Session) -> None:
    session.execute(insert(Item).prefix_with("OR REPLACE"), [item(5, year=1)])
    assert session.scalar(select(Item.year).where(Item.id == 5)) == 1


def test_other_threads_and_connections_have_the_extension(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    load(engine)
    load(engine)  # a second time changes nothing
    Base.metadata.create_all(engine)
    with engine.connect() as one, engine.connect() as two, engine.connect() as three:
        for connection in (one, two, three):
            assert connection.scalar(select(func.ivf_version())).startswith("v")
    engine.dispose()


# Definitions


def test_the_ddl_says_what_was_declared() -> None:
    table = Table(
        "my items",
        MetaData(),
        Column("key", String(20), primary_key=True),
        Column("user id", Integer),
        Column("vec", Vector(3, "cosine", "float16")),
        Column("other", Vector(4)),
        Column("when", DateTime),
        Column("price", Numeric(9, 2)),
        Column("live", Boolean),
        Column("raw", LargeBinary),
        sqlite_ivf={"partition_key": "user id", "auxiliary": ["raw"], "nlist": 10, "model": "it's"},
    )
    engine = create_engine("sqlite://")
    load(engine)
    assert str(CreateTable(table, if_not_exists=True).compile(engine)).strip() == (
        'CREATE VIRTUAL TABLE IF NOT EXISTS "my items" USING ivf("key" TEXT PRIMARY KEY, "user id" INTEGER PARTITION KEY, '
        '"vec" float16[3] distance_metric=cosine, "other" float32[4], "when" TEXT, "price" FLOAT, "live" BOOLEAN, "+raw" BLOB, '
        "nlist=10, model='it''s')".replace('"+raw"', '+"raw"')
    )
    table.create(engine)
    found = Table("my items", MetaData(), autoload_with=engine)
    assert found.dialect_options["sqlite"]["ivf"] == {
        "partition_key": ["user id"], "auxiliary": ["raw"], "nlist": "10", "model": "it's"
    }  # fmt: skip
    assert [(c.name, c.primary_key, c.nullable) for c in found.columns] == [
        (c.name, c.primary_key, c.nullable) for c in table.columns
    ]
    assert [repr(found.c[name].type) for name in ("vec", "other")] == [
        "Vector(3, metric='cosine', element='float16')", "Vector(4)"
    ]  # fmt: skip
    # What was found makes the same table elsewhere.
    there = create_engine("sqlite://")
    load(there)
    found.create(there)
    assert (
        Table("my items", MetaData(), autoload_with=there).dialect_options["sqlite"]["ivf"]
        == (found.dialect_options["sqlite"]["ivf"])
    )


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ([Column("n", Integer, ForeignKey("x.id"))], True, "cannot have a foreign key"),
        ([Column("n", Integer, server_default="5")], True, "cannot have a server default"),
        ([Column("n", Integer, unique=True)], True, "cannot have a UNIQUE constraint"),
        ([Column("n", Integer, index=True)], True, "cannot have an index of its columns"),
        ([Column("n", Integer), CheckConstraint("n > 5")], True, "cannot have a CHECK constraint"),
        ([Column("n", Integer, primary_key=True)], True, "whose key is one column"),
        ([Column("n", LargeBinary)], True, r"column 'n' is BLOB, which an ivf table only carries along: .*\['n'\]"),
    ],
)
def test_what_an_ivf_table_cannot_have_is_an_error(parts: Any, options: Any, message: str) -> None:
    metadata = MetaData()
    Table("x", metadata, Column("id", Integer, primary_key=True))
    table = Table("t", metadata, Column("id", Integer, primary_key=True), Column("v", Vector(3)), *parts, sqlite_ivf=options)
    with pytest.raises(CompileError, match=message):
        CreateTable(table).compile(create_engine("sqlite://"))


def test_wrong_options_are_errors_of_the_declaration() -> None:
    for options, message in (
        ({"nlists": 5}, "table 't': sqlite_ivf: unknown option 'nlists', expected one of nprobe, recall_target"),
        ({"auxiliary": ["x"]}, "table 't': sqlite_ivf: auxiliary: there is no column 'x'"),
        (5, "table 't': sqlite_ivf is True or a dict of options, got 5"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Table("t", MetaData(), Column("v", Vector(3)), sqlite_ivf=options)
    with pytest.raises(ValueError, match="an engine of SQLite is expected, got one of 'postgresql'"):
        load(type("Engine", (), {"dialect": type("Dialect", (), {"name": "postgresql"})}))


def test_ordinary_tables_are_as_ever(engine: Any) -> None:
    table = Table("plain", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer, unique=True), Index(None, "n"))
    table.create(engine)
    with engine.begin() as connection:
        assert connection.execute(insert(table).values(n=5).returning(table.c.id)).scalar() == 1
    with pytest.raises(ArgumentError, match="docs.embedding is no column of an ivf table: .*sqlite_ivf=True"):
        Doc.embedding.knn(VECTORS[0], k=1)


def test_create_all_and_drop_all_look_for_what_is_there(engine: Any) -> None:
    Base.metadata.create_all(engine)
    assert inspect(engine).has_table("items")
    Base.metadata.drop_all(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM sqlite_schema")).all() == []
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    assert sorted(inspect(engine).get_table_names()) == ["authors", "docs", "docs_near", "items"]


def test_reflection_shows_tables_and_no_shadow_tables(session: Session) -> None:
    bind = session.get_bind()
    assert sorted(inspect(bind).get_table_names()) == ["authors", "docs", "docs_near", "items"]
    metadata = MetaData()
    metadata.reflect(bind)
    assert sorted(metadata.tables) == ["authors", "docs", "docs_near", "items"]
    items = metadata.tables["items"]
    assert repr(items.c.embedding.type) == "Vector(8, metric='cosine')"
    assert items.c.keys() == ["id", "embedding", "year", "lang", "live", "day", "title"]  # no hidden columns
    query = random(1, 8, 11)[0]
    statement = select(items.c.id).where(items.c.embedding.knn(query, k=5), items.c.year > 2020)
    assert session.scalars(statement).all() == expected(query, 5, lambda i: i % 25 > 20)


@pytest.mark.parametrize("names", [("docs", "a_near"), ("a_docs", "near")])
@pytest.mark.parametrize("schema", [None, "main"])
def test_a_reflected_index_is_created_after_its_table_and_dropped_before(names: Any, schema: Any) -> None:
    one, two, again = MetaData(), MetaData(), MetaData()
    docs = Table(names[0], one, Column("id", Integer, primary_key=True), Column("v", Vector(2)), Column("n", Integer))
    index(names[1], docs.c.v, docs.c.n)
    engines = [create_engine("sqlite://") for _ in range(3)]
    for engine in engines:
        load(engine)
    one.create_all(engines[0])
    two.reflect(engines[0], schema=schema)
    two.create_all(engines[1])
    for table in two.tables.values():
        table.to_metadata(again)
    again.create_all(engines[2])
    key = f"{schema}.{{}}" if schema else "{}"
    for metadata, engine in ((two, engines[1]), (again, engines[2])):
        made, near = (metadata.tables[key.format(name)] for name in names)
        assert [table.name for table in metadata.sorted_tables] == list(names)
        with engine.begin() as connection:
            connection.execute(insert(made), [{"v": b"\0" * 8, "n": 1}])
            assert connection.scalar(select(func.count()).select_from(near).where(near.c.v.knn([0, 2], k=1))) == 1
        metadata.drop_all(engine)
        assert inspect(engine).get_table_names() == []
        engine.dispose()


def test_tables_of_an_attached_database(tmp_path: Path) -> None:
    engine = create_engine("sqlite://")
    load(engine)
    metadata = MetaData(schema="other")
    table = Table("items", metadata, Column("id", Integer, primary_key=True), Column("v", Vector(2)), sqlite_ivf=True)
    docs = Table("docs", metadata, Column("id", Integer, primary_key=True), Column("v", Vector(2)), Column("n", Integer))
    over = index("docs_near", docs.c.v, docs.c.n)
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        metadata.create_all(connection)
        connection.execute(insert(table), [{"v": [1, 0]}, {"v": [0, 1]}])
        connection.execute(insert(docs), [{"v": [1, 0], "n": 1}, {"v": [0, 1], "n": 2}])
        assert connection.scalar(select(table.c.id).where(table.c.v.knn([0, 2], k=1))) == 2
        assert connection.scalar(select(over.c.id).where(over.c.v.knn([0, 2], k=1), over.c.n < 2)) == 1
        assert sorted(inspect(connection).get_table_names("other")) == ["docs", "docs_near", "items"]
        connection.commit()
        metadata.drop_all(connection)
        assert inspect(connection).get_table_names("other") == []
    engine.dispose()


# Plugin, asyncio


def test_the_plugin_loads_by_name() -> None:
    for engine in (create_engine("sqlite://", plugins=["sqlite_ivf"]), create_engine("sqlite:///:memory:?plugin=sqlite_ivf")):
        with engine.connect() as connection:
            assert connection.scalar(select(func.ivf_version())).startswith("v")


def test_async_engines_search(tmp_path: Path) -> None:
    pytest.importorskip("aiosqlite")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        load(engine)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add_all([Item(**item(i)) for i in range(50)])
            session.add(Doc(id=1, title="a", lang="en", embedding=VECTORS[0]))
            await session.commit()
            statement = select(Item.id).where(Item.embedding.knn(VECTORS[3], k=4)).order_by(Item.embedding.distance)
            assert (await session.scalars(statement)).all() == expected(VECTORS[3], 4, lambda i: i < 50)
            assert (await session.scalars(select(near.c.id).where(near.c.embedding.knn(VECTORS[3], k=4)))).all() == [1]
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda c: inspect(c).get_table_names())
            assert sorted(names) == ["authors", "docs", "docs_near", "items"]
        await engine.dispose()

    asyncio.run(main())


# Indexes over tables


@pytest.fixture
def docs(engine: Any) -> Iterator[Session]:
    with Session(engine) as session:
        authors = [Author(name="Ann"), Author(name="Bob")]
        session.add_all(
            Doc(id=i, title=f"doc {i}", lang=["en", "de"][i % 2], embedding=VECTORS[i], author=authors[i % 3 % 2])
            for i in range(1, 100)
        )
        session.add(Doc(id=100, title="draft", lang="en", embedding=None))
        session.commit()
        yield session


def found(session: Session, query: Any, k: int, *conditions: Any) -> List[int]:
    statement = (
        select(Doc)
        .join(near, near.c.id == Doc.id)
        .where(near.c.embedding.knn(query, k=k), *conditions)
        .order_by(near.c.embedding.distance)
    )
    return [doc.id for doc in session.scalars(statement)]


def test_an_index_follows_the_table(docs: Session) -> None:
    query, here = random(1, 8, 12)[0], range(1, 100)
    assert found(docs, query, 5) == expected(query, 5, lambda i: i in here, "l2")
    assert found(docs, query, 5, near.c.lang == "de") == expected(query, 5, lambda i: i in here and i % 2, "l2")
    docs.get_one(Doc, 100).embedding = query
    docs.execute(delete(Doc).where(Doc.id.in_([1, 2, 3])))
    docs.execute(update(Doc).where(Doc.id == 4).values(lang="fr"))
    docs.flush()
    assert found(docs, query, 1) == [100]
    assert found(docs, query, 5, near.c.lang == "fr") == [4]
    assert sorted(found(docs, query, 1000)) == list(range(4, 101))
    docs.rollback()
    assert found(docs, query, 5) == expected(query, 5, lambda i: i in here, "l2")


def test_any_condition_on_the_table_is_part_of_the_search_by_a_select_of_keys(docs: Session) -> None:
    query = random(1, 8, 13)[0]
    keys = select(Doc.id).join(Author).where(Author.name == "Bob", or_(Doc.lang == "de", Doc.title == "doc 4"))
    wanted = expected(query, 3, lambda i: 0 < i < 100 and i % 3 == 1 and (i % 2 == 1 or i == 4), "l2")
    statement = select(near.c.id).where(near.c.embedding.knn(query, k=3, among=keys)).order_by(near.c.embedding.distance)
    assert docs.scalars(statement).all() == wanted


def test_relations_are_loaded_with_a_search(docs: Session) -> None:
    statement = (
        select(Doc, near.c.embedding.distance)
        .join(near, near.c.id == Doc.id)
        .where(near.c.embedding.knn(VECTORS[7], k=4))
        .order_by(near.c.embedding.distance)
        .options(joinedload(Doc.author))
        .limit(3)
    )
    rows = docs.execute(statement).all()
    assert [row.Doc.id for row in rows] == expected(VECTORS[7], 3, lambda i: 0 < i < 100, "l2") and rows[0].distance == 0
    authors = select(Author).options(joinedload(Author.docs)).join(Doc).join(near, near.c.id == Doc.id)
    one = docs.scalars(authors.where(near.c.embedding.knn(VECTORS[7], k=1)).limit(1)).unique().one()
    assert len(one.docs) > 1


def test_an_index_over_a_full_table_is_filled_and_drops_its_triggers(engine: Any) -> None:
    metadata = MetaData()
    table = Table("full", metadata, Column("nr", Integer, primary_key=True), Column("v", Vector(8)))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"nr": i, "v": VECTORS[i]} for i in range(50)])
    over = index("full_near", table.c.v, train_at="off")
    over.create(engine)
    statement = select(over.c.nr).where(over.c.v.knn(VECTORS[5], k=3))
    triggers = text("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'full'")
    with engine.begin() as connection:
        assert connection.scalars(statement).all() == expected(VECTORS[5], 3, lambda i: i < 50, "l2")
        assert connection.scalar(triggers) == 3
    with engine.begin() as connection:  # also by a table that says nothing of ivf, as alembic's op.drop_table does
        connection.execute(DropTable(Table("full_near", MetaData())))
        assert connection.scalar(triggers) == 0
        connection.execute(insert(table).values(nr=1000, v=VECTORS[0]))
    silent = index("silent", table.c.v, triggers=False)
    silent.create(engine)
    with engine.begin() as connection:
        assert connection.scalar(triggers) == 0
        assert connection.scalar(select(silent.c.nr).where(silent.c.v.knn(VECTORS[7], k=1))) == 7


def test_an_index_named_as_one_of_its_columns_is_filled(engine: Any) -> None:
    table = Table("t", MetaData(), Column("nr", Integer, primary_key=True), Column("v", Vector(2)))
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(v=[1, 2]))
        index("V", table.c.v).create(connection)
        assert connection.scalar(text("SELECT rows FROM ivf_stats('V')")) == 1


def test_columns_that_make_no_index_are_errors() -> None:
    metadata = MetaData()
    table = Table("t", metadata, Column("id", String, primary_key=True), Column("v", Vector(2)), Column("n", Integer))
    with pytest.raises(ArgumentError, match="index 'i': 't' has no INTEGER key: give a column of unique whole numbers as rowid"):
        index("i", table.c.v)
    assert index("i", table.c.v, rowid=table.c.n).c.keys() == ["n", "v"]
    with pytest.raises(ArgumentError, match=r"index 'j': t.n is Integer\(\), a Vector is expected"):
        index("j", table.c.n, rowid=table.c.n)
    with pytest.raises(ArgumentError, match="index 'j': docs.lang is no column of 't'"):
        index("j", table.c.v, Doc.lang, rowid=table.c.n)
    with pytest.raises(ArgumentError, match="a column of a table is expected, got 'v'"):
        index("j", "v")


# Alembic

ENV = """
from alembic import context
from sqlalchemy import create_engine
from sqlite_ivf.sqlalchemy import compare_type, include_object, load, render_item

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
load(engine)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=context.config.attributes["metadata"],
                      include_object=include_object, render_item=render_item, compare_type=compare_type)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
TEMPLATE = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


@pytest.fixture
def alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("alembic")
    from alembic.config import Config

    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "script.py.mako").write_text(TEMPLATE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # migrations are written anew within one second
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'a.db'}")
    config.set_main_option("path_separator", "os")
    config.attributes["metadata"] = Base.metadata
    return config


def written(config: Any, message: str) -> str:
    from alembic import command

    script = command.revision(config, message, autogenerate=True)
    return Path(script.path).read_text()


def test_alembic_writes_runs_and_reverts_migrations(alembic: Any, tmp_path: Path) -> None:
    from alembic import command

    first = written(alembic, "first")
    assert "import sqlite_ivf.sqlalchemy" in first
    assert "sqlite_ivf.sqlalchemy.Vector(8, metric='cosine')" in first
    assert "sqlite_ivf={'auxiliary': ['title'], 'train_at': 'off'}" in first
    command.upgrade(alembic, "head")
    command.check(alembic)  # nothing is left to do: no shadow table, no type, no NOT NULL

    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    load(engine)
    with Session(engine) as session:
        session.execute(insert(Item), [item(i) for i in range(20)])
        session.add(Doc(title="a", lang="en", embedding=VECTORS[3]))
        session.commit()
        assert ids_of(session, Item.embedding.knn(VECTORS[3], k=1)) == [3]
        assert found(session, VECTORS[3], 5) == [1]

    changed = MetaData()
    for table in Base.metadata.sorted_tables:
        if table.name not in ("docs_near", "items"):
            table.to_metadata(changed)
    Table("more", changed, Column("id", Integer, primary_key=True), Column("v", Vector(3)), Column("day", Date), sqlite_ivf=True)
    # What the metadata does not have is left alone.
    alembic.attributes["metadata"] = changed
    second = written(alembic, "second")
    assert "op.create_table('more'" in second and "sqlite_ivf=True" in second
    assert second.count("drop_table") == 1  # that of downgrade
    command.upgrade(alembic, "head")
    command.check(alembic)
    assert sorted(inspect(engine).get_table_names()) == [
        "alembic_version", "authors", "docs", "docs_near", "items", "more"
    ]  # fmt: skip
    command.downgrade(alembic, "base")
    with engine.connect() as connection:
        left = connection.scalars(text("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'")).all()
    assert left == ["alembic_version"]
    engine.dispose()


def test_a_batch_between_drop_and_create_keeps_the_index(alembic: Any, tmp_path: Path) -> None:
    from alembic import command

    alembic.attributes["metadata"] = Base.metadata
    written(alembic, "first")
    command.upgrade(alembic, "head")
    script = command.revision(alembic, "batch")
    path = Path(script.path)
    made = """
    op.create_table("docs_near", sa.Column("id", sa.Integer, primary_key=True), sa.Column("embedding", Vector(8)),
                    sa.Column("lang", sa.String), sqlite_ivf={"content": "docs", "content_rowid": "id"})
"""
    batch = """op.drop_table("docs_near")
    with op.batch_alter_table("docs") as changed:
        changed.alter_column("title", nullable=True)
"""
    path.write_text(
        path.read_text().replace("pass", batch + made, 1).replace("op\n", "op\nfrom sqlite_ivf.sqlalchemy import Vector\n")
    )
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    load(engine)
    with Session(engine) as session:
        session.add(Doc(title="a", lang="en", embedding=VECTORS[3]))
        session.commit()
        command.upgrade(alembic, "head")
        session.add(Doc(title="b", lang="en", embedding=VECTORS[4]))
        session.commit()
        assert found(session, VECTORS[4], 5) == [2, 1]
    engine.dispose()


def test_alembic_sees_other_dimensions_and_drops_what_may_be_dropped(alembic: Any, tmp_path: Path) -> None:
    from alembic import command

    def metadata(dim: int) -> MetaData:
        made = MetaData()
        Table("t", made, Column("id", Integer, primary_key=True), Column("v", Vector(dim)), Column("n", Float), sqlite_ivf=True)
        return made

    alembic.attributes["metadata"] = metadata(3)
    written(alembic, "first")
    command.upgrade(alembic, "head")
    command.check(alembic)
    alembic.attributes["metadata"] = metadata(4)
    with pytest.raises(Exception, match=r"Vector\(3\).*Vector\(4\)"):
        command.check(alembic)


def test_the_helpers_are_for_ivf_tables_only() -> None:
    plain, ivf = Doc.__table__, Item.__table__
    assert include_object(plain, "docs", "table", True, None) and include_object(ivf, "items", "table", False, None)
    assert include_object(ivf, "items", "table", True, ivf) and not include_object(ivf, "items", "table", True, None)
    assert render_item("type", String(), None) is False and render_item("column", Vector(3), None) is False
    assert compare_type(None, None, plain.c.id, Integer(), Integer()) is None


def test_a_missing_sqlalchemy_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.delitem(sys.modules, "sqlite_ivf.sqlalchemy")
    with pytest.raises(ImportError, match=r"sqlite_ivf.sqlalchemy needs SQLAlchemy 2 .*sqlite-ivf\[sqlalchemy\]"):
        __import__("sqlite_ivf.sqlalchemy")
