from django.db import models

from sqlite_ivf.django import IvfIndex, IvfManager, IvfQuerySet, VectorField


class Author(models.Model):
    name = models.TextField()


class Doc(models.Model):
    title = models.CharField(max_length=50)
    lang = models.CharField(max_length=2)
    year = models.IntegerField(null=True)
    live = models.BooleanField(default=True)
    day = models.DateField(null=True)
    author = models.ForeignKey(Author, models.CASCADE, null=True, related_name="docs")
    embedding = VectorField(dim=8, null=True)

    objects = IvfManager()

    class Meta:
        indexes = [
            IvfIndex(
                fields=["embedding", "lang", "year", "live", "day", "author"],
                name="doc_near",
                metric="cosine",
                train_at="off",
            ),
            models.Index(fields=["year"], name="doc_year"),
        ]


class Photo(models.Model):
    pixels = VectorField(dim=4, element="int8", result="list")
    place = models.IntegerField(db_column="where_it_is")

    objects = IvfQuerySet.as_manager()

    class Meta:
        db_table = "the photos"
        indexes = [IvfIndex(fields=["pixels", "place"], partition_key=["place"])]
