"""What Django's own test runner runs in the project: test_django.py."""

import datetime
import io
import tempfile
import threading
from decimal import Decimal
from unittest import skipIf

import django
import numpy as np
from django.core import serializers
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, connection, models, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext, isolate_apps

from library.models import Author, Doc, Photo
from sqlite_ivf.django import Distance, IvfIndex, VectorField

VECTORS = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
QUERY = np.random.default_rng(1).standard_normal(8).astype(np.float32)
DAY = datetime.date(2024, 1, 1)


def distances(vectors=VECTORS, query=QUERY):
    return 1 - vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


def expected(k, which=lambda i: True, query=QUERY):
    order = np.argsort(distances(query=query), kind="stable")
    return [int(i) for i in order if i > 0 and which(i)][:k]


def pks(queryset):
    return [doc.pk for doc in queryset]


def fill():
    authors = [Author.objects.create(name=name) for name in ("Ann", "Bob")]
    Doc.objects.bulk_create(
        Doc(
            pk=i,
            title=f"doc {i}",
            lang=["en", "de", "fr"][i % 3],
            year=None if i % 20 == 0 else 2000 + i % 25,
            live=i % 2 == 0,
            day=DAY + datetime.timedelta(days=i),
            author=authors[i % 2],
            embedding=VECTORS[i],
        )
        for i in range(1, 200)
    )


def integrity():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO doc_near(doc_near) VALUES ('integrity-check')")


class Searches(TestCase):
    @classmethod
    def setUpTestData(cls):
        fill()

    def test_a_search_gives_the_rows_and_distances_of_brute_force(self):
        found = list(Doc.objects.nearest("embedding", QUERY, k=7))
        self.assertEqual(pks(found), expected(7))
        np.testing.assert_allclose([doc.distance for doc in found], distances()[pks(found)], atol=1e-6)
        np.testing.assert_array_equal(found[0].embedding, VECTORS[found[0].pk])
        with connection.cursor() as cursor:  # the very numbers of the index
            cursor.execute("SELECT rowid, distance FROM doc_near WHERE embedding MATCH %s AND k = 7", [QUERY.tobytes()])
            self.assertEqual(cursor.fetchall(), [(doc.pk, doc.distance) for doc in found])

    def test_filters_before_are_part_of_the_search(self):
        ann = Author.objects.get(name="Ann")
        cases = [
            (Q(year__gt=2020), lambda i: i % 20 and i % 25 > 20, True),
            (Q(lang="de", live=True), lambda i: i % 3 == 1 and i % 2 == 0, True),
            (Q(live=False), lambda i: i % 2 == 1, True),
            (Q(year__in=[2001, 2002]), lambda i: i % 20 and i % 25 in (1, 2), True),
            (Q(year__in=[2001]), lambda i: i % 20 and i % 25 == 1, True),
            (Q(year__range=(2001, 2003), lang__gte="en"), lambda i: i % 20 and i % 25 in (1, 2, 3) and i % 3 != 1, True),
            (Q(year__isnull=True), lambda i: i % 20 == 0, True),
            (Q(year=None), lambda i: i % 20 == 0, True),
            (Q(year__isnull=False, year__lte=2001), lambda i: i % 20 and i % 25 <= 1, True),
            (Q(day__lt=DAY + datetime.timedelta(days=10)), lambda i: i < 10, True),
            (Q(author=ann), lambda i: i % 2 == 0, True),
            (Q(author_id__in=[ann.pk]), lambda i: i % 2 == 0, True),
            (Q(author__name="Bob", year__gt=2010), lambda i: i % 2 and i % 20 and i % 25 > 10, False),
            (Q(lang="de") | Q(year=2003), lambda i: i % 3 == 1 or (i % 20 and i % 25 == 3), False),
            (~Q(lang__in=["de", "fr"]), lambda i: i % 3 == 0, False),
            (Q(title__endswith="7"), lambda i: i % 10 == 7, False),
            (Q(pk=5), lambda i: i == 5, False),
            (Q(pk__in=[5, 6]), lambda i: i in (5, 6), False),
            (Q(day__month=3), lambda i: (DAY + datetime.timedelta(days=int(i))).month == 3, False),
            (Q(year=F("pk") + 2000), lambda i: i % 20 and i < 25, False),
            (Q(pk__in=[]), lambda i: False, False),
        ]
        for condition, which, by_columns in cases:
            with self.subTest(condition=condition):
                queryset = Doc.objects.filter(condition).nearest("embedding", QUERY, k=4)
                self.assertEqual(pks(queryset), expected(4, which))
                if not queryset.query.is_empty() and condition != Q(pk__in=[]):
                    self.assertEqual('"doc_near".rowid IN' in str(queryset.query), not by_columns)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=3, where={"lang": "de"})), expected(3, lambda i: i % 3 == 1))
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=3, where=Q(lang="de"))), expected(3, lambda i: i % 3 == 1))

    @skipIf(django.VERSION < (5, 0), "a number of more than 64 bits is an error of Django's")
    def test_filters_that_are_always_true_or_false_leave_the_search_as_it_is(self):
        big, english = 2**70, lambda i: i % 3 == 0
        always = [
            {"year__lt": 2**63},
            {"year__lte": big},
            {"year__gt": -big, "year__lt": big},
            {"live__in": [True, False], "year__lt": big},
            {"author__isnull": False, "year__lt": big},
        ]
        never = [{"year__gt": big}, {"year": big}, {"year__lt": -big}, {"year__in": []}, {"lang": "en", "year__in": [None]}]
        near = ("embedding", QUERY, 2)
        for filters in always:
            for which, lang in ((lambda i: True, {}), (english, {"lang": "en"})):
                for name, queryset in (
                    ("filter", Doc.objects.filter(**filters, **lang).nearest(*near)),
                    ("where", Doc.objects.filter(**lang).nearest(*near, where=filters)),
                    ("Q", Doc.objects.nearest(*near, where=Q(**filters, **lang))),
                    ("or", Doc.objects.filter(Q(**filters) | Q(pk=1), **lang).nearest(*near)),
                    ("not", Doc.objects.filter(~Q(pk__in=[]), **lang).nearest(*near)),
                    ("exclude", Doc.objects.filter(**lang).exclude(year__gt=big).nearest(*near)),
                    ("after", Doc.objects.filter(**lang).nearest(*near).filter(**filters)),
                ):
                    with self.subTest(filters=filters, lang=lang, name=name):
                        self.check_rows(queryset, expected(2, which))
        for filters in never:
            for name, queryset in (
                ("filter", Doc.objects.filter(**filters).nearest(*near)),
                ("where", Doc.objects.nearest(*near, where=filters)),
                ("Q", Doc.objects.filter(lang="en").nearest(*near, where=Q(**filters))),
                ("or", Doc.objects.filter(Q(**filters) | Q(pk__in=[])).nearest(*near)),
                ("not", Doc.objects.filter(~Q(~Q(pk__in=[]))).nearest(*near)),
                ("after", Doc.objects.nearest(*near).filter(**filters)),
                ("none", Doc.objects.none().nearest(*near)),
            ):
                with self.subTest(filters=filters, name=name):
                    self.check_rows(queryset, [])
        every = Doc.objects.filter(year__lt=big).nearest(*near)
        self.assertEqual(Doc.objects.exclude(pk__in=every.values("pk")).count(), 197)
        self.assertEqual(Doc.objects.exclude(pk__in=Doc.objects.filter(year__gt=big).nearest(*near).values("pk")).count(), 199)
        self.assertEqual(Author.objects.filter(docs__in=every).count(), 2)

    def check_rows(self, queryset, rows):
        """That reads, counts, updates and deletions are of these rows alone."""
        self.assertEqual(pks(queryset), rows)
        self.assertEqual((queryset.count(), queryset.exists(), len(queryset.values_list("pk"))), (len(rows), bool(rows), len(rows)))
        self.assertEqual(queryset.aggregate(n=Count("pk"))["n"], len(rows))
        savepoint = transaction.savepoint()
        self.assertEqual(queryset.update(title="x"), len(rows))
        self.assertEqual(set(pks(Doc.objects.filter(title="x"))), set(rows))
        self.assertEqual(queryset.delete()[0], len(rows))
        self.assertEqual(Doc.objects.count(), 199 - len(rows))
        self.assertFalse(Doc.objects.filter(pk__in=rows).exists())
        transaction.savepoint_rollback(savepoint)

    def test_filters_over_many_rows_give_each_row_once(self):
        cases = [
            (Q(author__docs__lang__in=["en", "de"]), lambda i: True),
            (Q(author__docs__in=[5, 7, 9]), lambda i: i % 2),
            (Q(author__docs__in=[5, 7], lang="en"), lambda i: i % 2 and i % 3 == 0),
            (Q(author__docs__in=[5, 7]) | Q(lang="en"), lambda i: i % 2 or i % 3 == 0),
            (Q(author__docs__in=[5, 7], author__name="Bob", year__lt=2**62), lambda i: i % 2 and i % 20),
            (Q(author__docs__in=[5, 7], pk__in=[]), lambda i: False),
        ]
        for condition, which in cases:
            for queryset in (
                Doc.objects.filter(condition).nearest("embedding", QUERY, k=5),
                Doc.objects.nearest("embedding", QUERY, k=5, where=condition),
                Doc.objects.annotate(n=F("author__name"))
                .filter(condition)
                .select_related("author")
                .nearest("embedding", QUERY, k=5),
                Doc.objects.distinct().filter(condition).nearest("embedding", QUERY, k=5),
            ):
                with self.subTest(condition=condition):
                    rows = expected(5, which)
                    if not queryset.query.distinct:
                        self.check_rows(queryset, rows)
                    self.assertEqual(pks(queryset), rows)
                    self.assertEqual(pks(queryset.filter(author__name="Bob")), [i for i in rows if i % 2])
        near = Doc.objects.filter(author__docs__in=[5, 7]).values("pk", "author__name").nearest("embedding", QUERY, k=2)
        self.assertEqual([(row["pk"], row["author__name"]) for row in near], [(i, "Bob") for i in expected(2, lambda i: i % 2)])
        counted = Doc.objects.filter(author__docs__in=[5, 7]).annotate(n=Count("author__docs")).nearest("embedding", QUERY, k=2)
        self.assertEqual([(doc.pk, doc.n) for doc in counted], [(i, 2) for i in expected(2, lambda i: i % 2)])
        either = Doc.objects.filter(author__docs__in=[5, 7]).nearest("embedding", QUERY, k=2) | Doc.objects.filter(pk=5)
        self.assertEqual(set(pks(either)), {*expected(2, lambda i: i % 2), 5})

    def test_more_filters_than_an_index_takes(self):
        for count in (1, 8, 9, 12, 13, 14, 15, 16, 30):
            queryset = between = Doc.objects.filter(lang="de")
            for i in range(count):
                queryset = queryset.filter(year__gte=2000 + i // 2)
                between = between.filter(year__range=(2000 + i // 2, 2024))
            for each in (queryset, between, queryset.filter(title__endswith="7"), between.filter(title__endswith="7")):
                rows = [i for i in expected(200) if i % 3 == 1 and i % 20 and i % 25 >= (count - 1) // 2]
                rows = [i for i in rows if i % 10 == 7 or each is queryset or each is between][:4]
                self.assertEqual(pks(each.nearest("embedding", QUERY, k=4)), rows)
                self.assertEqual(pks(each.nearest("embedding", QUERY, k=4, within=2, nprobe=-1)), rows)

    def test_vectors_are_compared_by_their_bytes(self):
        for vector in (VECTORS[9], VECTORS[9].tolist(), VECTORS[9].tobytes(), memoryview(VECTORS[9].tobytes())):
            self.assertEqual(pks(Doc.objects.filter(embedding=vector)), [9])
            self.assertEqual(pks(Doc.objects.filter(embedding__in=[vector, QUERY])), [9])
            self.assertEqual(Doc.objects.exclude(embedding=vector).count(), 198)
            self.assertEqual(Doc.objects.get_or_create(embedding=vector), (Doc(pk=9), False))
        made, new = Doc.objects.get_or_create(embedding=QUERY, defaults={"lang": "xx"})
        self.assertTrue(new)
        self.assertEqual(Doc.objects.update_or_create(embedding=QUERY, defaults={"lang": "yy"}), (made, False))
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=1)), [made.pk])
        self.assertEqual(Doc.objects.filter(embedding=F("embedding")).count(), 200)
        self.assertEqual(Doc.objects.filter(embedding=None).count(), 0)
        with self.assertRaisesRegex(ValueError, "a vector of 8 dimensions is expected, got 2"):
            Doc.objects.filter(embedding=[1, 2])

    def test_a_search_inside_another_query(self):
        near = Doc.objects.nearest("embedding", QUERY, k=5)
        first = Author.objects.annotate(doc=Subquery(near.filter(author=OuterRef("pk")).values("pk")[:1]))
        self.assertEqual([author.doc for author in first.order_by("pk")], [
            next((i for i in expected(5) if i % 2 == side), None) for side in (0, 1)
        ])  # fmt: skip
        linked = Exists(Author.objects.filter(pk=OuterRef("author"), name="Bob"))
        self.assertEqual(pks(Doc.objects.filter(linked).nearest("embedding", QUERY, k=5)), expected(5, lambda i: i % 2))

    def test_filters_afterwards_are_applied_to_what_was_found(self):
        found = Doc.objects.nearest("embedding", QUERY, k=10).filter(lang="de")
        self.assertEqual(pks(found), [i for i in expected(10) if i % 3 == 1])
        bound = float(np.median(distances()[expected(10)]))
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=10).filter(distance__lt=bound)), 5)

    def test_querysets_go_on_as_ever(self):
        near = Doc.objects.nearest("embedding", QUERY, k=6)
        self.assertEqual(near.count(), 6)
        self.assertEqual(near[1:3].count(), 2)
        self.assertEqual(pks(near[1:3]), expected(6)[1:3])
        self.assertEqual(near.first().pk, expected(1)[0])
        self.assertEqual(list(near.values_list("pk", flat=True)), expected(6))
        self.assertEqual(sorted(pks(near.order_by("title"))), sorted(expected(6)))
        with self.assertNumQueries(1):
            self.assertTrue(all(doc.author.name for doc in near.select_related("author")))
        self.assertEqual(near.aggregate(n=Count("author", distinct=True))["n"], len({i % 2 for i in expected(6)}))
        self.assertEqual(set(pks(Doc.objects.filter(pk__in=near.values("pk")))), set(expected(6)))
        self.assertTrue(near.filter(lang="en").exists())
        self.assertEqual(Author.objects.filter(docs__in=near.values("pk")).distinct().count(), 2)
        ann = Author.objects.get(name="Ann")
        self.assertEqual(pks(ann.docs.nearest("embedding", QUERY, k=3)), expected(3, lambda i: i % 2 == 0))
        named = Doc.objects.nearest("embedding", QUERY, k=1, distance="far").get()
        self.assertAlmostEqual(named.far, float(distances()[named.pk]), places=5)
        self.assertEqual(pks(Doc.objects.annotate(n=F("year") + 1).filter(n=2002).nearest("embedding", QUERY, k=2)),
                         expected(2, lambda i: i % 20 and i % 25 == 1))  # fmt: skip
        with self.assertRaisesRegex(TypeError, "slice"):
            Doc.objects.all()[:5].nearest("embedding", QUERY, k=1)

    def test_bounds_groups_and_settings(self):
        bound = float(np.sort(distances()[1:])[9]) + 1e-6
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, within=bound)), expected(10))
        self.assertEqual(len({doc.lang for doc in Doc.objects.nearest("embedding", QUERY, k=3, per="lang")}), 3)
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=2, per=("author", 3))), 6)
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=2, per=("author_id", np.int64(3)))), 6)
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=2, per="author_id")), 2)
        for number in (np.float32(bound), Decimal(bound)):
            self.assertIn(len(Doc.objects.nearest("embedding", QUERY, within=number)), (9, 10))
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=5, mmr=0.3)), 5)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY.tolist(), k=5, nprobe=-1, max_codes=0)), expected(5))
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5, index="doc_near", recall_target=0.99)), expected(5))
        with self.assertRaisesRegex(OperationalError, "doc_near has no model, got 'x'"):
            list(Doc.objects.nearest("embedding", QUERY, k=1, model="x"))

    def test_wrong_arguments_are_errors_that_say_what_is_right(self):
        for arguments, options, kind, message in (
            (
                ("title", QUERY),
                {"k": 1},
                FieldError,
                "library.Doc has no IvfIndex of 'title', its own are: doc_near of 'embedding'",
            ),
            (("embedding", QUERY), {"k": 1, "index": "x"}, FieldError, "has no index 'x' of 'embedding'"),
            (("embedding", QUERY[:3]), {"k": 1}, ValueError, r"8 dimensions is expected, got an array of shape \(3,\)"),
            (("embedding", QUERY), {}, TypeError, "k or within is expected"),
            (("embedding", QUERY), {"k": 1, "probes": 3}, TypeError, "unknown argument 'probes', expected one of nprobe"),
            (("embedding", QUERY), {"k": 1, "per": "title"}, FieldError, "per is one of lang, year, .* got 'title'"),
            (("embedding", QUERY), {"k": 1, "per": ("lang", 0)}, ValueError, "per: a whole number from 1 is expected .* got 0"),
            (("embedding", QUERY), {"k": 1, "per": ("lang", -1)}, ValueError, "per: a whole number from 1 is expected .* got -1"),
            (("embedding", QUERY), {"k": 1, "per": ("lang", True)}, ValueError, "per: a whole number from 1 .* got True"),
            (("embedding", QUERY), {"k": 1, "per": ("lang", "2")}, ValueError, "per: a whole number from 1 .* got '2'"),
            (("embedding", QUERY), {"k": 1, "per": 3}, ValueError, "per: a field or .* is expected, got 3"),
            (
                ("embedding", QUERY),
                {"k": 1, "per": ("lang", 1, 2)},
                ValueError,
                "per: a field or .* is expected, got .'lang', 1, 2",
            ),
            (("embedding", QUERY), {"within": "x"}, ValueError, "within: a number is expected, got 'x'"),
            (("embedding", QUERY), {"within": "0.5"}, ValueError, "within: a number is expected, got '0.5'"),
            (("embedding", QUERY), {"within": True}, ValueError, "within: a number is expected, got True"),
            (("embedding", QUERY), {"within": [1]}, ValueError, r"within: a number is expected, got \[1\]"),
            (("embedding", QUERY), {"within": float("nan")}, ValueError, "NaN is no value of a search"),
            (("embedding", QUERY), {"within": np.float32("nan")}, ValueError, "NaN is no value of a search"),
            (("embedding", QUERY), {"k": 1, "where": Q(author=OuterRef("pk"))}, ValueError, "OuterRef after the search"),
        ):
            with self.subTest(options=options), self.assertRaisesRegex(kind, message):
                Doc.objects.nearest(*arguments, **options)

    def test_distances_without_an_index(self):
        order = np.argsort(np.abs(VECTORS - QUERY).sum(axis=1))
        found = Doc.objects.order_by(Distance("embedding", QUERY, "l1"))[:5]
        self.assertEqual(pks(found), [int(i) for i in order if i > 0][:5])
        with self.assertRaisesRegex(ValueError, "metric is one of l2, cosine, ip, l1, got 'cos'"):
            Distance("embedding", QUERY, "cos")

    def test_the_index_follows_the_table(self):
        doc = Doc.objects.create(title="new", lang="xx", embedding=QUERY)
        self.assertEqual(Doc.objects.nearest("embedding", QUERY, k=1).get(), doc)
        doc.embedding = -QUERY
        doc.save()
        self.assertNotEqual(Doc.objects.nearest("embedding", QUERY, k=1).get(), doc)
        Doc.objects.filter(pk=doc.pk).update(embedding=QUERY, lang="yy")
        self.assertEqual(Doc.objects.filter(lang="yy").nearest("embedding", QUERY, k=1).get(), doc)
        doc.refresh_from_db()
        np.testing.assert_array_equal(doc.embedding, QUERY)
        Doc.objects.bulk_update([Doc(pk=doc.pk, embedding=VECTORS[3])], ["embedding"])
        self.assertEqual(set(pks(Doc.objects.nearest("embedding", VECTORS[3], k=2))), {3, doc.pk})
        Doc.objects.update_or_create(pk=doc.pk, defaults={"embedding": None})
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=1000)), 199)
        doc.delete()
        self.assertEqual(Doc.objects.nearest("embedding", QUERY, k=5).delete()[0], 5)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=3)), expected(8)[5:])
        Author.objects.get(name="Ann").delete()
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=3)), [i for i in expected(200)[5:] if i % 2][:3])
        integrity()

    def test_rows_that_conflict(self):
        again = [Doc(pk=5, title="again", lang="xx", embedding=QUERY), Doc(pk=500, title="new", lang="xx", embedding=QUERY)]
        Doc.objects.bulk_create(again, ignore_conflicts=True)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=2))[0], 500)
        self.assertEqual(pks(Doc.objects.filter(lang="xx").nearest("embedding", QUERY, k=5)), [500])
        Doc.objects.bulk_create(again, update_conflicts=True, unique_fields=["id"], update_fields=["lang", "embedding"])
        self.assertEqual(pks(Doc.objects.filter(lang="xx").nearest("embedding", QUERY, k=5)), [5, 500])
        integrity()

    def test_a_savepoint_that_is_rolled_back(self):
        before = pks(Doc.objects.nearest("embedding", QUERY, k=5))
        with self.assertRaises(IntegrityError), transaction.atomic():
            Doc.objects.create(title="new", lang="xx", embedding=QUERY)
            self.assertNotEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5)), before)
            Doc.objects.create(pk=7, title="again", lang="xx")
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5)), before)
        integrity()

    def test_a_test_sees_nothing_of_others(self):
        self.assertEqual(len(Doc.objects.nearest("embedding", QUERY, k=1000)), 199)

    def test_a_vector_that_does_not_fit_is_an_error(self):
        for value, message in (
            ([1, 2], "a vector of 8 dimensions is expected, got 2"),
            (b"1234", "8 dimensions is expected .float32: 32 bytes., got 4 bytes"),
            (7, "numbers, an array or a buffer, got 7"),
        ):
            with self.assertRaisesRegex((TypeError, ValueError), message), transaction.atomic():
                Doc.objects.create(title="wrong", lang="xx", embedding=value)
        with self.assertRaisesRegex(OperationalError, "NaN"), transaction.atomic():
            Doc.objects.create(title="wrong", lang="xx", embedding=[float("nan")] * 8)

    def test_int8_lists_and_partitions(self):
        Photo.objects.bulk_create(Photo(pixels=[i, 0, 0, 0], place=i % 2) for i in range(10))
        found = Photo.objects.filter(place=1).nearest("pixels", [4, 0, 0, 0], k=2)
        self.assertEqual([(photo.pixels, photo.distance) for photo in found], [([3, 0, 0, 0], 1.0), ([5, 0, 0, 0], 1.0)])
        with self.assertRaisesRegex(ValueError, "an int8 is a whole number from -128 to 127, got 200"):
            Photo.objects.create(pixels=[200, 0, 0, 0], place=1)

    def test_fixtures_keep_vectors(self):
        text = serializers.serialize("json", Doc.objects.filter(pk=9))
        Doc.objects.filter(pk=9).delete()
        for each in serializers.deserialize("json", text):
            each.save()
        np.testing.assert_array_equal(Doc.objects.get(pk=9).embedding, VECTORS[9])
        self.assertEqual(pks(Doc.objects.nearest("embedding", VECTORS[9], k=1)), [9])
        self.assertIn('"embedding": null', serializers.serialize("json", [Doc(title="x")]).replace('"null"', "null"))

    def test_queries_are_shown_in_debug(self):
        with CaptureQueriesContext(connection) as captured:
            list(Doc.objects.filter(year=2003).nearest("embedding", QUERY, k=1))
        self.assertIn('"doc_near"."year" = 2003', captured[0]["sql"])

    def test_checks_and_declarations(self):
        for field, message in (
            (VectorField(), "dim is a number from 1 to 16384, got None"),
            (VectorField(dim=3, element="float8"), "element is one of float32"),
            (VectorField(dim=3, result="tuple"), "result is one of numpy, memoryview, list, got 'tuple'"),
            (VectorField(dim=8, element="bit"), "element is one of float32, float16, bfloat16, int8, got 'bit'"),
        ):
            field.set_attributes_from_name("v")
            field.model = Doc
            self.assertTrue(any(message in str(error) for error in field.check()), message)
        with self.assertRaisesRegex(TypeError, "unknown argument 'nlists', expected one of nprobe"):
            IvfIndex(fields=["embedding"], nlists=3)
        with self.assertRaisesRegex(ValueError, "metric is one of l2, cosine, ip, got 'dot'"):
            IvfIndex(fields=["embedding"], metric="dot")
        with self.assertRaisesRegex(ValueError, "partition_key: 'year' is none of the fields to filter by"):
            IvfIndex(fields=["embedding"], partition_key="year")

    @isolate_apps("library")
    def test_indexes_that_cannot_be_made_are_errors(self):
        class Other(models.Model):
            id = models.UUIDField(primary_key=True)
            embedding = VectorField(dim=3)

            class Meta:
                app_label = "library"

        class Third(models.Model):
            embedding = VectorField(dim=3)
            raw = models.BinaryField()

            class Meta:
                app_label = "library"

        editor = connection.schema_editor()
        for model, fields, message in (
            (Other, ["embedding"], "the primary key of library.Other is a UUIDField"),
            (Third, ["raw"], "the first field is a VectorField, got 'raw', a BinaryField"),
            (Third, ["embedding", "raw"], "searches cannot filter by 'raw', a BinaryField"),
        ):
            with self.assertRaisesRegex(FieldError, message):
                IvfIndex(fields=fields, name="x").create_sql(model, editor)


class Transactions(TransactionTestCase):
    def test_a_transaction_that_is_rolled_back(self):
        fill()
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            Doc.objects.create(title="new", lang="xx", embedding=QUERY)
            raise ZeroDivisionError
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5)), expected(5))

    def test_other_threads_search(self):
        fill()
        found = []

        def search():
            try:
                found.append(pks(Doc.objects.nearest("embedding", QUERY, k=5)))
            finally:
                connection.close()

        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [expected(5)] * 4)

    def test_a_flush_empties_the_index(self):
        fill()
        call_command("flush", interactive=False, verbosity=0)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5)), [])
        integrity()

    def test_dumped_data_is_loaded(self):
        fill()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            text = io.StringIO()
            call_command("dumpdata", "library", stdout=text)
            file.write(text.getvalue())
            file.flush()
            call_command("flush", interactive=False, verbosity=0)
            call_command("loaddata", file.name, verbosity=0)
        self.assertEqual(pks(Doc.objects.nearest("embedding", QUERY, k=5)), expected(5))

    async def test_async_querysets(self):
        await Doc.objects.acreate(title="a", lang="en", embedding=QUERY)
        self.assertEqual([doc.title async for doc in Doc.objects.nearest("embedding", QUERY, k=5)], ["a"])
