"""The sentences of the corpus `home`: a small grammar of what people say to their home, written for this project.

A rule is an intent with patterns; `{slot}` stands for a value of that slot. Patterns that begin with `+` are commands
and may be dressed up ("could you ...", "... please"). Everything is lower case, without punctuation, numbers as words,
as a transcript of speech would be. The draw is seeded and even: over intents, over patterns, over values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from lalm.records import Frame, Slot

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

VALUES: dict[str, tuple[str, ...]] = {
    "room": (
        "kitchen",
        "living room",
        "bedroom",
        "bathroom",
        "hallway",
        "guest room",
        "home office",
        "dining room",
        "nursery",
        "basement",
    ),
    "light": (
        "floor lamp",
        "reading lamp",
        "ceiling light",
        "desk lamp",
        "night light",
        "wall light",
        "table lamp",
        "string lights",
    ),
    "color": ("red", "dark blue", "warm white", "green", "purple", "orange", "cold white", "pink"),
    "brightness": (
        "ten percent",
        "twenty five percent",
        "forty percent",
        "sixty percent",
        "eighty percent",
        "full brightness",
    ),
    "temperature": (
        "sixteen degrees",
        "eighteen degrees",
        "nineteen degrees",
        "twenty degrees",
        "twenty one degrees",
        "twenty two degrees",
        "twenty three degrees",
        "twenty five degrees",
    ),
    "cover": ("blinds", "curtains", "shutters", "drapes", "window", "roller shade"),
    "duration": (
        "thirty seconds",
        "three minutes",
        "five minutes",
        "eight minutes",
        "twelve minutes",
        "twenty minutes",
        "half an hour",
        "forty five minutes",
        "an hour and a half",
        "two hours",
    ),
    "time": (
        "five o'clock",
        "half past five",
        "six o'clock",
        "quarter to seven",
        "seven o'clock",
        "half past seven",
        "quarter past eight",
        "nine o'clock",
        "noon",
        "midnight",
    ),
    "day": ("today", "tomorrow", *_WEEKDAYS),
    "weekday": _WEEKDAYS,  # a day after "on"
    "task": (
        "water the plants",
        "feed the cat",
        "take out the trash",
        "call my mother",
        "pay the electric bill",
        "walk the dog",
        "clean the windows",
        "book a dentist appointment",
        "return the library books",
        "charge the car",
        "send the birthday card",
        "pick up the parcel",
    ),
    "genre": (
        "jazz",
        "classical music",
        "country music",
        "hip hop",
        "piano music",
        "children's songs",
        "rock",
        "folk music",
        "dance music",
        "sounds of the ocean",
    ),
    "volume": (
        "ten percent",
        "twenty percent",
        "thirty percent",
        "fifty percent",
        "seventy percent",
        "the maximum",
        "half",
    ),
    "item": (
        "oat milk",
        "eggs",
        "two loaves of bread",
        "light bulbs",
        "toothpaste",
        "dish soap",
        "a bag of potatoes",
        "coffee beans",
        "batteries",
        "paper towels",
        "a birthday cake",
        "tomatoes",
        "wrapping paper",
        "sunscreen",
    ),
    "list": ("shopping", "grocery", "party", "weekend", "vacation", "hardware store"),
    "door": ("front door", "back door", "garage door", "garden gate", "cellar door", "patio door"),
    "appliance": ("washing machine", "dishwasher", "oven", "dryer", "coffee maker", "robot vacuum"),
}

PROGRAMS: dict[str, tuple[str, ...]] = {
    "washing machine": ("wool", "cotton", "quick wash", "delicates"),
    "dishwasher": ("eco", "glass care", "intensive", "quick wash"),
    "oven": ("pizza", "bread baking", "slow roast"),
    "dryer": ("towel", "gentle", "extra dry"),
    "coffee maker": ("espresso", "double espresso", "cappuccino"),
    "robot vacuum": ("deep clean", "quiet", "spot cleaning"),
}

RULES: dict[str, tuple[str, ...]] = {
    "light_on": (
        "+turn on the {light} in the {room}",
        "+switch on the lights in the {room}",
        "+turn the {light} on",
        "+put the {room} lights on",
        "lights on in the {room}",
        "it's too dark in the {room} turn on the {light}",
        "i need some light in the {room}",
        "+switch the {light} in the {room} on",
    ),
    "light_off": (
        "+turn off the {light} in the {room}",
        "+switch off the lights in the {room}",
        "+turn the {light} off",
        "+shut off the {room} lights",
        "lights out in the {room}",
        "nobody is in the {room} switch the lights off",
        "i don't need the {light} anymore",
        "+switch the {light} in the {room} off",
    ),
    "light_set": (
        "+dim the {light} to {brightness}",
        "+make the {room} lights {color}",
        "+set the {light} to {color}",
        "+set the lights in the {room} to {brightness}",
        "i want {color} light in the {room}",
        "+change the {light} to {color} at {brightness}",
        "i would like the {room} lights at {brightness}",
    ),
    "heating_set": (
        "+set the {room} to {temperature}",
        "+heat the {room} to {temperature}",
        "+turn the thermostat to {temperature}",
        "i want it to be {temperature} in the {room}",
        "+make it {temperature} in the {room} by {time}",
        "it should be {temperature} in the {room} {day}",
        "+keep the {room} at {temperature}",
    ),
    "temperature_ask": (
        "how warm is it in the {room}",
        "what is the temperature in the {room}",
        "+tell me how cold it is in the {room}",
        "is it warm enough in the {room}",
        "what does the thermostat in the {room} say",
        "how many degrees do we have in the {room} right now",
        "+check the temperature in the {room}",
    ),
    "cover_open": (
        "+open the {cover} in the {room}",
        "+open the {room} {cover}",
        "+open the {cover} at {time}",
        "let some sun into the {room} open the {cover}",
        "good morning open the {cover} in the {room}",
        "i want to look outside open the {cover} in the {room}",
    ),
    "cover_close": (
        "+close the {cover} in the {room}",
        "+close the {room} {cover}",
        "+close the {cover} at {time}",
        "the sun is blinding me close the {cover}",
        "good night close the {cover} in the {room}",
        "it's about to rain close the {cover} in the {room}",
    ),
    "timer_start": (
        "+set a timer for {duration}",
        "+start a timer for {duration}",
        "+let me know in {duration}",
        "i need a timer for {duration}",
        "timer for {duration}",
        "+count down {duration}",
        "+give me {duration} on the clock",
    ),
    "alarm_set": (
        "+wake me up at {time} on {weekday}",
        "+set an alarm for {time}",
        "i have to get up at {time} {day}",
        "+set my alarm for {day} at {time}",
        "alarm at {time}",
        "+wake me {day} at {time}",
        "i want to sleep until {time}",
    ),
    "reminder_add": (
        "+remind me to {task}",
        "+remind me to {task} at {time}",
        "+remind me {day} to {task}",
        "don't let me forget to {task}",
        "i have to {task} on {weekday} remind me",
        "+set a reminder for {day} at {time} to {task}",
        "make sure that i {task} {day}",
    ),
    "music_play": (
        "+play some {genre}",
        "+play {genre} in the {room}",
        "+put on {genre}",
        "i'm in the mood for {genre}",
        "i want to hear {genre} in the {room}",
        "+play {genre} at {volume} volume",
        "how about some {genre} in the {room}",
        "+start some {genre}",
    ),
    "volume_set": (
        "+set the volume to {volume}",
        "+turn the volume to {volume} in the {room}",
        "+change the music in the {room} to {volume}",
        "volume to {volume}",
        "the speakers in the {room} should be at {volume}",
        "+put the speaker in the {room} at {volume}",
    ),
    "list_add": (
        "+add {item} to the {list} list",
        "+put {item} on my {list} list",
        "we are out of {item} put it on the {list} list",
        "we need {item} for the {list} list",
        "+write {item} on the {list} list",
        "{item} should go on the {list} list",
        "i forgot {item} add it to the {list} list",
    ),
    "door_lock": (
        "+lock the {door}",
        "+lock the {door} at {time}",
        "i forgot to lock the {door}",
        "+make sure the {door} is locked",
        "we are going to bed lock the {door}",
        "+lock up the {door} behind me",
        "we just left please lock the {door}",
    ),
    "appliance_start": (
        "+start the {appliance}",
        "+start the {appliance} with the {program} program",
        "+run the {appliance} at {time}",
        "+turn on the {appliance} on the {program} setting",
        "it's time to run the {appliance} on {program}",
        "the {appliance} should start at {time} with the {program} program",
        "+start the {program} program of the {appliance}",
    ),
}

_BEFORE = ("", "", "", "please ", "can you ", "could you ", "would you please ", "i'd like you to ", "hey ")
_AFTER = ("", "", "", "", " please", " for me", " thanks")
_TYPES = {"weekday": "day"}  # names in patterns that stand for a narrower list of a slot's values
_SLOT = re.compile(r"\{(\w+)\}")


def sentences(per_intent: int, seed: int) -> list[tuple[str, Frame]]:
    """`per_intent` distinct sentences of every intent with their frames, intents in turn.

    Raises ValueError if the grammar does not hold that many.
    """
    rng = Random(seed)
    wells = _Wells(rng)
    seen: set[str] = set()
    rows: list[tuple[str, Frame]] = []
    for _ in range(per_intent):
        for intent in RULES:
            for _try in range(200):
                text, frame = _draw(intent, wells, rng)
                if text not in seen:
                    break
            else:
                raise ValueError(f"the rule '{intent}' does not give {per_intent} distinct sentences")
            seen.add(text)
            rows.append((text, frame))
    return rows


class _Wells:
    """Draws without replacement that begin anew when a list is used up, so that everything comes up equally often."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._left: dict[str, list[str]] = {}

    def next(self, name: str, values: Sequence[str]) -> str:
        if not self._left.get(name):
            self._left[name] = self._rng.sample(values, len(values))
        return self._left[name].pop()


def _draw(intent: str, wells: _Wells, rng: Random) -> tuple[str, Frame]:
    pattern = wells.next(f"rule {intent}", RULES[intent])
    chosen: dict[str, str] = {}
    names = _SLOT.findall(pattern)
    for name in sorted(names, key=lambda slot: slot == "program"):  # the appliance is known first
        if name == "program":
            chosen[name] = wells.next(f"program of {chosen['appliance']}", PROGRAMS[chosen["appliance"]])
        else:
            chosen[name] = wells.next(f"{intent} {name}", VALUES[name])
    text = pattern.removeprefix("+").format(**chosen)
    if pattern.startswith("+"):
        text = rng.choice(_BEFORE) + text
        if not text.startswith(("please", "would you please")):
            text += rng.choice(_AFTER)
    return text, Frame(intent, tuple(Slot(_TYPES.get(name, name), chosen[name]) for name in names))
