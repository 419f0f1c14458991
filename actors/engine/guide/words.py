"""Words to repeat, reverse and pick from: common ones and made-up ones."""

import random

COMMON = """
red blue green yellow black white brown pink purple orange grey gold silver cat dog bird fish horse
cow sheep goat mouse lion tiger bear wolf fox deer duck frog snake whale shark eagle owl bee ant
apple pear plum grape lemon melon peach cherry banana mango bread butter cheese milk water tea
coffee sugar salt pepper rice soup cake pie egg meat house door window wall floor roof room table
chair bed lamp clock book page pen paper pencil letter word name story song music dance game ball
toy box bag cup plate bowl spoon fork knife bottle glass coat hat shoe shirt dress ring key lock
road street bridge river lake sea ocean beach hill mountain valley forest tree leaf flower grass
seed root stone rock sand snow ice rain wind storm cloud sky sun moon star light dark night day
morning evening week month year hour minute second spring summer autumn winter north south east
west left right up down in out over under near far big small tall short long wide deep high low
fast slow hot cold warm cool new old young good bad happy sad kind brave calm loud quiet soft hard
heavy easy strong weak rich poor clean full empty open closed first last next same other early late
run walk jump swim fly climb sit stand sleep wake eat drink cook read write draw paint sing play
work rest talk listen look see hear feel think know learn teach help give take make build break
fix find lose win buy sell send bring carry hold push pull throw catch cut grow plant farm garden
market shop school hospital station train bus car boat ship plane bike wheel engine machine robot
computer screen keyboard phone radio camera picture number zero one two three four five six seven
eight nine ten eleven twelve hundred thousand king queen prince knight castle tower sword shield
crown gold treasure island pirate captain sailor doctor nurse teacher farmer baker driver pilot
soldier lawyer judge friend mother father sister brother baby child man woman boy girl people world
earth planet rocket space energy power fire smoke metal iron copper wood cotton wool silk leather
hello goodbye please thanks yes no maybe the a an and or but with from into about every some many
few all none this that these those here there now then quick lazy over under hello world foo bar
actor cluster node model leader worker master runner event state lease election message stream
token prompt answer question server client network memory disk data folder file log bus queue
""".split()
WORDS = tuple(sorted(set(COMMON)))
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
VOWELS = "aeiou"


def made_up(rng: random.Random) -> str:
    """Make a word that can be spoken, of 3 to 6 letters."""
    size = rng.randint(3, 6)
    first = rng.random() < 0.7
    return "".join(rng.choice(CONSONANTS if (i % 2 == 0) == first else VOWELS) for i in range(size))


def letters(rng: random.Random) -> str:
    """Make a run of 2 to 5 letters."""
    alphabet = CONSONANTS + VOWELS
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 5)))


def word(rng: random.Random) -> str:
    """Choose a word: mostly a common one, sometimes a made-up one."""
    draw = rng.random()
    if draw < 0.82:
        return rng.choice(WORDS)
    return made_up(rng) if draw < 0.97 else letters(rng)


def phrase(rng: random.Random, longest: int) -> str:
    """Choose 1 to `longest` words, sometimes with capitals or numbers among them."""
    chosen = [word(rng) for _ in range(rng.randint(1, longest))]
    if rng.random() < 0.1:
        chosen[rng.randrange(len(chosen))] = str(rng.randint(0, 99))
    if rng.random() < 0.15:
        chosen = [each.capitalize() if rng.random() < 0.5 else each for each in chosen]
    return " ".join(chosen)
