"""Names that nobody chose: two words, so that people can read them out to each other."""

from __future__ import annotations

import random

_FIRST = (
    "amber ample azure brave breezy bright calm candid cheery civil clear clever cosy crisp"
    " dapper daring deft eager early easy fair fleet fond frank fresh gentle glad golden grand"
    " green hardy hearty honest humble jolly keen kind lively loyal lucid mellow merry mild"
    " modest neat nimble noble open patient placid plucky polite proud quick quiet ready robust"
    " rosy sage serene sharp silver smart snug solid spry steady stout sunny swift tidy"
    " tranquil true upbeat vivid warm wise witty young zesty"
).split()
_SECOND = (
    "anchor apple aspen badger barge beacon birch bison bramble bridge brook cedar clover comet"
    " coral crane creek cricket dahlia dolphin ember falcon fern finch fjord fox garden gecko"
    " glacier grove harbor hazel heron hill ibis iris island ivy jay juniper kestrel lagoon"
    " lantern larch lark lemon linden lynx maple marten meadow mill moss oak olive orchid"
    " osprey otter owl pebble pine plum poppy quail quarry quince raven reef ridge river robin"
    " rowan sail sparrow spruce stone swan thistle tulip valley walnut willow wren yarrow"
).split()


def generate(attempt: int) -> str:
    """Return a name at random; from the fourth attempt on with a number, so that one is free."""
    chance = random.SystemRandom()
    name = f"{chance.choice(_FIRST)}_{chance.choice(_SECOND)}"
    return name if attempt < 3 else f"{name}{chance.randrange(10 ** (attempt - 2))}"
