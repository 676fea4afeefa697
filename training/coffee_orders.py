"""Random coffee orders, worded like the commands of the speech-to-intent benchmark."""

from __future__ import annotations

import random

OPENINGS = (
    "can i get",
    "can i have",
    "may i have",
    "get me",
    "give me",
    "make me",
    "brew",
    "i want",
    "i'd like",
)
SIZES = (
    "small",
    "medium",
    "large",
    "eight ounce",
    "twelve ounce",
    "sixteen ounce",
    "twenty ounce",
)
SHOTS = ("single shot", "double shot", "triple shot")
ROASTS = ("light roast", "medium roast", "dark roast")
DRINKS = (
    "americano",
    "cappuccino",
    "coffee",
    "drip coffee",
    "espresso",
    "house coffee",
    "iced coffee",
    "iced mocha",
    "latte",
    "mocha",
)
AMOUNTS = ("", "", "a bit of ", "a little bit of ", "a lot of ", "lots of ", "some ")
MILKS = ("almond milk", "cream", "milk", "skim milk", "soy milk", "whole milk")
SWEETENERS = ("brown sugar", "sugar", "sweetener")


def random_order(rng: random.Random, shortest: bool = False) -> str:
    """One order in lower case, of 2 to about 22 words.

    Args:
        rng: Source of randomness.
        shortest: Whether to return a fragment of an order instead.
    """
    kinds = [rng.choice(kind) for kind in (SIZES, SHOTS, ROASTS)]
    rng.shuffle(kinds)
    drink = [*kinds[: rng.choice((0, 1, 1, 2, 3))], rng.choice(DRINKS)]
    extras = [rng.choice(AMOUNTS) + rng.choice(MILKS), rng.choice(AMOUNTS) + rng.choice(SWEETENERS)]
    rng.shuffle(extras)
    extras = extras[: rng.choice((0, 1, 1, 2))]
    if shortest:
        return rng.choice([rng.choice(OPENINGS), " ".join(drink[-2:]), "with " + rng.choice(extras or ["milk"])])
    article = "an" if drink[0][0] in "aei" and drink[0][:2] != "i'" else "a"
    words = [rng.choice(OPENINGS), article, *drink]
    if extras:
        words += ["with", " and ".join(extras)]
    return " ".join(words)
