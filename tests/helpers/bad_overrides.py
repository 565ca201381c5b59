"""Bad command lines, made by rule from conf/ and its sections: what people mistype, and what no machine could hold.

A rule takes the keys with what they may be, and makes only what is bad for a reason of its own (a letter too many, a
list for a number, ten thousand letters for a file's name): it never asks whether the program refuses it.
"""

import itertools
import json
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import NamedTuple

from config_keys import Argv, Catalogue, read
from hydra._internal.utils import get_args_parser

EXAMPLES = {int: "7", float: "1.5", bool: "true", str: "some", list: "[1]", dict: "{a:1}", NoneType: "null"}
HUGE = 10**6  # the most that any size may be


class Bad(NamedTuple):
    """A command line, and the rule that made it."""

    rule: str
    argv: Argv


def misspelt_keys(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """A letter dropped, doubled, or two swapped."""
    known = {key.path for key in catalogue.keys}
    for key in catalogue.keys:
        above, _, last = key.path.rpartition(".")
        path = f"{above}.{_misspelt(last, rng)}".removeprefix(".")
        if path not in known:
            yield (*key.above, f"{rng.choice(('', '', '+', '++'))}{path}={json.dumps(key.value)}")
            yield (*key.above, f"~{path}")


def wrong_types(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """A list for a number, a number for a name, null where there must be a value."""
    for key in catalogue.keys:
        for kind, text in EXAMPLES.items():
            if kind not in key.types or (key.choices and kind is int):
                yield key.set(text)
    for key in catalogue.leaves(str):
        if key.choices and not key.path.endswith("_target_"):  # which may name a class of the user's
            yield key.set(_misspelt(rng.choice(key.choices), rng))


def out_of_range(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Just outside of a bound, and far outside; below nought, where no number here can lie; what is no number."""
    for key in catalogue.leaves(int):
        unit = rng.choice((1, 10**3)) if float not in key.types else rng.choice((1e-3, 1e3))
        for name, bound in key.bounds.items():
            outside = 0 if name in ("gt", "lt") else unit
            yield key.set(str(bound - outside if name.startswith("g") else bound + outside))
        yield key.set(rng.choice(("-1", "-7", f"-{HUGE}")))
    for key in catalogue.leaves(float):
        yield key.set(rng.choice(("inf", "nan", "-inf", "1e400", "-1e-3")))


def absurd_numbers(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """No count needs more than 64 bits, no weight is beyond 10^38, no file's name has ten thousand letters."""
    for key in catalogue.leaves(int):
        if float not in key.types:
            yield key.set(str(10 ** rng.randint(20, 40)))
        elif key.bounds.get("gt") == 0:
            yield key.set(f"1e{rng.randint(40, 300)}")
    for key in catalogue.leaves(str):
        if key.has_rules:
            yield key.set(rng.choice(string.ascii_letters) * 10_000)


def absurd_sizes(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """No machine holds 10^12 weights, or 10^10 pixels at a time."""
    for key in catalogue.leaves(int):
        if key.path.endswith(".hidden") and "200" in key.frame:  # two layers, one after the other
            yield (*key.above, f"{key.path}={key.frame.format(HUGE).replace('200', str(HUGE))}")
    for size in (10**5, 10**6):
        yield (f"k={HUGE}", f"trainer.batch_size={size}")
        yield (
            f"k={size}",
            f"trainer.batch_size={HUGE}",
            f"objective={rng.choice(catalogue.groups['objective'])}",
        )
        yield ("objective=sivi", f"objective.num_noises={HUGE}", f"trainer.batch_size={size}")
        yield (f"eval.rows={1000 * size}", f"data={rng.choice(catalogue.groups['data'])}")
        yield (f"model.latent=[{HUGE}]", f"model.hidden=[[{size}]]")


def wrong_choices(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """An option that a group has not."""
    for group, options in catalogue.groups.items():
        wrong = [_misspelt(option, rng) for option in options]
        yield from ((f"{group}={option}",) for option in {*wrong, _word(rng), ""} - {*options})
        if group not in ("experiment", "hydra/launcher", "hydra/sweeper"):  # these may be null
            yield from ((f"{group}={text}",) for kind, text in EXAMPLES.items() if kind is not str)
            yield (f"~{group}",)


def empty_values(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Nothing, or nothing but spaces."""
    for key in catalogue.keys:
        if str not in key.types or key.choices or key.has_rules or "min_length" in key.bounds:
            yield key.set("")
            yield key.set("''")
        if key.has_rules and str in key.types:
            yield key.set(f"'{' ' * rng.randint(1, 5)}'")
        if list in key.types and "min_length" in key.bounds:
            yield key.set("[]")


def unusable_names(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """What no folder should be called."""
    for key in catalogue.leaves(str):
        if key.has_rules:
            yield from (key.set(f"'{_word(rng)}{mark}{_word(rng)}'") for mark in "\n\0\x1b")
            if key.path.rpartition(".")[2] == "name":
                yield from (key.set(f"'{_word(rng)}{mark}{_word(rng)}'") for mark in ("/", "/../"))
                yield from (key.set(f"'{mark}{_word(rng)}'") for mark in ("..", "-", "/", " "))


def broken_syntax(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """A bracket, a quote or an equals sign that is missing or too much."""
    forms = (
        "{0}",
        "={1}",
        "{0}=[{1}",
        "{0}={1}]",
        "{0}='{1}",
        "{0}=={1}",
        "{0}.={1}",
        ".{0}={1}",
        "{0} ={1}",
    )
    more = ("{0}={{a:{1}", "{0}=${{", "{0}={1}(", "{0}={1},", "{0}:{1}", "{0}={1}={1}", "{0}=some(1)")
    for key in catalogue.keys:
        for form in rng.sample((*forms, *more), 3):
            yield (*key.above, form.format(key.path, rng.randint(1, 9)))


def interpolations(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Of what is not there, or of the key itself."""
    for key in catalogue.keys:
        name = _word(rng)
        forms = (f"${{{name}}}", f"${{oc.env:{name.upper()}}}", f"${{{name}:1}}", f"${{{key.path}.{name}}}")
        yield key.set(rng.choice((*forms, f"${{{key.path}}}")))


def deletions(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Every key is needed."""
    for key in catalogue.keys:
        yield (*key.above, f"~{key.path}")
        yield (*key.above, f"~{key.path}={_word(rng)}")


def additions(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Of keys that nobody knows, or that are there already."""
    for key in catalogue.keys:
        above, _, last = key.path.rpartition(".")
        yield (*key.above, f"{rng.choice(('+', '++'))}{above}.{last}_{_word(rng)}=1".replace("+.", "+"))
        if isinstance(key.value, int | float | str) and key.frame == "{}":
            yield key.set(json.dumps(key.value), "+")


def followers(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Numbers that must be what another key says: of pixels, of samples."""
    for key in catalogue.leaves(int):
        if key.follows:
            yield key.set(str(key.value + rng.randint(1, 100)))


def clashes(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """An objective for semi-implicit posteriors with another, or another objective with such a posterior."""
    for objective, model in itertools.product(catalogue.groups["objective"], catalogue.groups["model"]):
        if (objective in catalogue.semi_implicit) != (model == "semi_implicit"):
            yield (f"objective={objective}", f"model={model}")


def sweeps(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """One bad job among good ones; several values without -m."""
    for key in catalogue.leaves(int, float, bool):
        good = json.dumps(key.value)
        bad = rng.choice(("[1]", "a'b'", "-inf", _word(rng)))
        if key.frame == "{}":
            yield ("-m", *key.set(f"{good},{bad}"))
            yield (*key.set(f"{bad},{good}"), "seed=0,1", "--multirun")
            yield key.set(f"{good},{bad}")


def hydras_own(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Where Hydra would write beside the run's folder; what Hydra does not know; a sweep for ever."""
    yield from ((f"{key}={_word(rng)}",) for key in ("hydra.run.dir", "hydra.output_subdir", "hydra.mode"))
    yield ("hydra.job.chdir=true",)
    for group in ("hydra/job_logging", "hydra/hydra_logging"):
        yield from ((f"{group}={option}",) for option in ("default", "disabled", "stdout", _word(rng)))
    for key in ("run", "sweep", "launcher", "sweeper", "mode", "job", "verbose", "searchpath"):
        yield (f"hydra.{_misspelt(key, rng)}={_word(rng)}",)
    yield from (("-m", f"{key}=range(1,{10 ** rng.randint(5, 9)})") for key in ("k", "seed"))


def wrong_flags(catalogue: Catalogue, rng: random.Random) -> Iterator[Argv]:
    """Flags that there are not, and keys written like flags."""
    known = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    for flag in known:
        wrong = f"--{_misspelt(flag.lstrip('-'), rng)}"
        if flag.startswith("--") and not any(other.startswith(wrong) for other in known):
            yield (wrong,)
    yield from (("--" + key.set("1")[-1],) for key in catalogue.keys)
    yield from ((f"{flag}={_word(rng)}",) for flag in ("--cfg", "--info", "--config-name"))
    yield from ((f"{flag}={_word(rng)}",) for flag in ("--config-dir", "--config-path"))


RULES: tuple[Callable[[Catalogue, random.Random], Iterator[Argv]], ...] = (
    misspelt_keys,
    wrong_types,
    out_of_range,
    absurd_numbers,
    absurd_sizes,
    wrong_choices,
    empty_values,
    unusable_names,
    broken_syntax,
    interpolations,
    deletions,
    additions,
    followers,
    clashes,
    sweeps,
    hydras_own,
    wrong_flags,
)


def draw(conf: Path, count: int, seed: int) -> list[Bad]:
    """So many different command lines, from each rule about as many as from any other."""
    catalogue, rng = read(conf), random.Random(seed)
    drawn = [[Bad(rule.__name__, argv) for argv in dict.fromkeys(rule(catalogue, rng))] for rule in RULES]
    for cases in drawn:
        rng.shuffle(cases)
    in_turn = (bad for cases in itertools.zip_longest(*drawn) for bad in cases if bad is not None)
    return list({bad.argv: bad for bad in itertools.islice(in_turn, 2 * count)}.values())[:count]


def _word(rng: random.Random) -> str:
    return "".join(rng.choices("bcdfghjklmpqrstvwxz", k=6))


def _misspelt(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    swapped = word[:place] + word[place + 1 : place + 2] + word[place] + word[place + 2 :]
    made = {word[:place] + word[place + 1 :], word[: place + 1] + word[place:], swapped, word.swapcase()}
    return rng.choice(sorted(made - {word, ""}))
