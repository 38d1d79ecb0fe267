"""SQLAlchemy: reflection of tables of vectors, and queries through what was reflected."""

from __future__ import annotations

from typing import Any

import sqlite_vec
from sqlalchemy import MetaData, Table, bindparam, create_engine, event, inspect, select, text
from sqlalchemy.orm import Session, registry
from sqlalchemy.pool import StaticPool

from made_up import blob, embed, show

engine = create_engine("sqlite://", poolclass=StaticPool)


@event.listens_for(engine, "connect")
def load(connection: Any, _record: Any) -> None:
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    connection.enable_load_extension(False)


with engine.begin() as db:
    db.execute(text("CREATE VIRTUAL TABLE bare USING vec0(embedding float[8])"))
    db.execute(text("CREATE VIRTUAL TABLE items USING vec0(id INTEGER PRIMARY KEY, embedding float[8], kind TEXT, +note TEXT)"))
    db.execute(text("CREATE VIRTUAL TABLE named USING vec0(id TEXT PRIMARY KEY, tenant INTEGER PARTITION KEY, embedding float[8], n FLOAT, ok BOOLEAN)"))

for name in ["bare", "items", "named"]:
    look = inspect(engine)
    show(f"{name} columns", lambda: [[c["name"], c["nullable"], c["primary_key"], c["default"]] for c in look.get_columns(name)])
    show(f"{name} types", lambda: [str(c["type"]) for c in look.get_columns(name)])
    show(f"{name} key", lambda: look.get_pk_constraint(name)["constrained_columns"])
    show(f"{name} indexes", lambda: [look.get_indexes(name), look.get_foreign_keys(name), look.get_unique_constraints(name)])
show("has", lambda: [inspect(engine).has_table("items"), inspect(engine).has_table("nothing")])

items = Table("items", MetaData(), autoload_with=engine)
show("reflected", lambda: [[c.name, c.primary_key] for c in items.columns])
with engine.begin() as db:
    show("insert", lambda: db.execute(items.insert(), [{"id": i, "embedding": blob(embed(t)), "kind": t, "note": None} for i, t in enumerate("abc", 1)]).rowcount)
    near = select(items.c.id, items.c.kind, text("distance")).where(items.c.embedding.op("MATCH")(bindparam("q")), text("k = 2"))
    show("knn", lambda: [list(r) for r in db.execute(near, {"q": blob(embed("b"))})])
    show("one insert", lambda: list(db.execute(items.insert().values(id=9, embedding=blob(embed("z")), kind="z", note="n")).inserted_primary_key))
    show("update", lambda: db.execute(items.update().where(items.c.id == 9).values(kind="y")).rowcount)
    show("rows", lambda: [list(r) for r in db.execute(select(items.c.id, items.c.kind, items.c.note))])


class Item:
    pass


show("mapped", lambda: registry().map_imperatively(Item, items).primary_key[0].name)
with Session(engine) as session:
    show("get", lambda: session.get(Item, 2).kind)
