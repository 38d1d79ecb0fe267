"""Django: an unmanaged model of a table of vectors."""

from __future__ import annotations

import django
from django.conf import settings

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

from io import StringIO

import sqlite_vec
from django.core.management import call_command
from django.db import connection, models
from django.db.backends.signals import connection_created

from made_up import blob, embed, show


def load(connection, **_: object) -> None:
    connection.connection.enable_load_extension(True)
    sqlite_vec.load(connection.connection)
    connection.connection.enable_load_extension(False)


connection_created.connect(load)


class Note(models.Model):
    id = models.BigAutoField(primary_key=True, db_column="rowid")
    embedding = models.BinaryField()
    kind = models.TextField()
    seen = models.BooleanField(default=False)

    class Meta:
        app_label = "notes"
        managed = False
        db_table = "notes"


with connection.cursor() as cursor:
    cursor.execute("CREATE VIRTUAL TABLE notes USING vec0(embedding float[8], kind TEXT, seen BOOLEAN)")

NEAR = "SELECT rowid, embedding, kind, seen, distance FROM notes WHERE embedding MATCH %s AND k = 3 ORDER BY distance"
notes = Note.objects
show("create", lambda: [notes.create(embedding=blob(embed(t)), kind=t).pk for t in ["tea", "milk"]])
show("create with a key", lambda: notes.create(pk=40, embedding=blob(embed("rum")), kind="rum", seen=True).pk)
show("bulk", lambda: [n.pk for n in notes.bulk_create([Note(pk=p, embedding=blob(embed(str(p))), kind="bulk") for p in (50, 51)])])
show("all", lambda: [[n.pk, n.kind, n.seen] for n in notes.order_by("pk")])
show("count", lambda: [notes.count(), notes.filter(kind="bulk").count(), notes.filter(seen=True).exists()])
show("get", lambda: [notes.get(pk=40).kind, bytes(notes.get(pk=40).embedding)])
show("in", lambda: [n.kind for n in notes.filter(pk__in=[40, 51]).order_by("pk")])
show("like", lambda: [n.pk for n in notes.filter(kind__startswith="b").order_by("pk")])
show("raw knn", lambda: [[n.pk, n.kind, n.distance] for n in notes.raw(NEAR, [blob(embed("rum"))])])
show("update", lambda: notes.filter(pk=50).update(kind="other"))
show("delete", lambda: notes.filter(pk=51).delete()[0])
show("missing", lambda: notes.get(pk=51))
show("after", lambda: [[n.pk, n.kind] for n in notes.order_by("-pk")])
show("wrong length", lambda: notes.create(pk=60, embedding=b"\0\0\0\0", kind="short"))
show("same key", lambda: notes.create(pk=40, embedding=blob(embed("x")), kind="x", seen=False) and None)


def inspected() -> list[str]:
    out = StringIO()
    call_command("inspectdb", "notes", stdout=out)
    return [line.strip() for line in out.getvalue().splitlines() if " = models." in line]


show("inspectdb", inspected)
