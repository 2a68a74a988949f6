from django.test import TestCase
from django.utils import timezone

from .models import Game, Round, Status


class Rounds(TestCase):
    def test_a_round_is_written(self):
        game = Game.objects.create(slug="crash", name="Crash", kind="multiplier")
        Round.objects.create(game=game, status=Status.SETTLED, finished_at=timezone.now())
        self.assertEqual(Round.objects.count(), 1)
