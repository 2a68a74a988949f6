"""The game's tables. The scenario sets NOTE (a new column) and KIND (the length of one that we read)."""

import os
import uuid

from django.db import models


class Game(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=64)
    kind = models.CharField(max_length=int(os.environ.get("KIND", "64")))


class Status(models.TextChoices):
    OPEN = "open"
    SETTLED = "settled"


class Round(models.Model):
    game = models.ForeignKey(Game, on_delete=models.PROTECT)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.OPEN)
    finished_at = models.DateTimeField(null=True)
    extras = models.JSONField(default=dict)
    if "NOTE" in os.environ:
        note = models.CharField(max_length=20, default="")


class Spin(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    game = models.ForeignKey(Game, on_delete=models.PROTECT)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.OPEN)
    updated_at = models.DateTimeField(auto_now=True)
    extras = models.JSONField(default=dict)


class Hand(models.Model):
    pk = models.CompositePrimaryKey("table_no", "hand_no")
    table_no = models.IntegerField()
    hand_no = models.BigIntegerField()
    game = models.ForeignKey(Game, on_delete=models.PROTECT)
    finished_at = models.DateTimeField(null=True)
    bet = models.IntegerField(default=0)
