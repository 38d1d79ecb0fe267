"""The bundled texts: 4,400 packages of Debian 12, a line each, and embeddings of these lines.

`packages.bin` is two zlib streams, one after the other. The first one is the lines, `package: synopsis`, in UTF-8. The second one
is the embeddings, a signed byte per number: the first numbers of all lines, then the second numbers of all lines, and so on.

Texts and embeddings are those of `examples/data` of the source tree, whose README tells their origin (all-MiniLM-L6-v2, 384
dimensions). The embeddings are rounded to `STEPS` steps per standard deviation, and so take a quarter of the bytes of float16.
`tests/demo_data.py` of the source tree writes the file.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

TABLE, TEXTS = "packages", "packages_fts"
DIM, NLIST, STEPS = 384, 64, 3
FILE = Path(__file__).with_name("packages.bin")
MODEL = "all-MiniLM-L6-v2"

#: The first subject of which a line has a word.
SUBJECTS: Dict[str, str] = {
    "games": "games? puzzles? arcade roguelike chess multiplayer shooter solitaire sudoku tetris",
    "science": "genom\\w* dna rna proteins? sequenc\\w* molecular astronom\\w* telescopes? chemi\\w* statistic\\w* physics",
    "mail": "e?mails? imap pop3? smtp irc chat xmpp jabber messag\\w+ spam newsgroups? matrix sms",
    "music": "music audio midi sound synthesi[sz]ers? radio mp3 songs? drum guitar speech",
    "pictures": "images? photos? videos? cameras? graphics drawing pictures? scanner movies? 3d ocr",
    "databases": "databases? postgresql mysql mariadb sql sqlite ldap",
    "files": "backups? filesystems? archives? storage disks? files? download\\w*",
    "network": "networks? networking servers? proxy firewall traffic packets? web http vpn dns tcp wireless wifi openstack",
    "programming": "compilers? interpreter programming debugg\\w+ language library libraries code python perl java git ide",
    "text": "editors? text dictionary dictionaries ispell words? latex tex pdf typing thesaurus documents?",
    "system": "system kernel drivers? monitor\\w* daemon virtual containers? terminal console shell printers? desktop window",
}
INTERFACES: Dict[str, str] = {
    "GNOME, GTK": "gnome gtk\\+?\\d?",
    "KDE, Qt": "kde plasma qt\\d? qml",
    "terminal": "terminal console ncurses curses cli command line shell",
    "web": "web html http browser",
}


def _patterns(names: Dict[str, str]) -> List[Tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(rf"\b(?:{'|'.join(words.split())})\b", re.IGNORECASE)) for name, words in names.items()]


def _first(text: str, patterns: List[Tuple[str, re.Pattern[str]]]) -> Optional[str]:
    return next((name for name, pattern in patterns if pattern.search(text)), None)


def texts_and_vectors() -> Tuple[List[str], bytes]:
    """The lines, and their embeddings one after the other, a signed byte per number.

    >>> texts, vectors = texts_and_vectors()
    >>> len(texts), len(vectors) // DIM, texts[0]
    (4400, 4400, '0ad: Real-time strategy game of ancient warfare')
    """
    stream = zlib.decompressobj()
    texts = stream.decompress(FILE.read_bytes()).decode().splitlines()
    by_dimension = zlib.decompress(stream.unused_data)
    rows = len(texts)
    vectors = bytearray(rows * DIM)
    for place in range(DIM):
        vectors[place::DIM] = by_dimension[place * rows : (place + 1) * rows]
    return texts, bytes(vectors)


def rows() -> Iterator[Tuple[int, bytes, Optional[str], Optional[str], int, str, str]]:
    """The rows of the table: rowid, embedding, subject, interface, how many words, family of packages, text."""
    subjects, interfaces = _patterns(SUBJECTS), _patterns(INTERFACES)
    texts, vectors = texts_and_vectors()
    for at, text in enumerate(texts):
        package, _, synopsis = text.partition(": ")
        subject, interface = _first(synopsis, subjects), _first(text, interfaces)
        yield at + 1, vectors[at * DIM : (at + 1) * DIM], subject, interface, len(synopsis.split()), package.split("-")[0], text


def create(db: Any) -> None:
    """Makes the table and its full-text table, and trains it. Nothing is open on the connection."""
    db.execute("BEGIN")
    db.execute(
        f"CREATE VIRTUAL TABLE {TABLE} USING ivf(vec int8[{DIM}] distance_metric=cosine, subject TEXT, interface TEXT,"
        f" words INTEGER, family TEXT, +text TEXT, nlist={NLIST}, train_at=off, model='{MODEL}')"
    )
    db.execute(f"CREATE VIRTUAL TABLE {TEXTS} USING fts5(text, content='', prefix='1 2 3')")
    insert = f"INSERT INTO {TABLE}(rowid, vec, subject, interface, words, family, text) VALUES (?, ?, ?, ?, ?, ?, ?)"
    for row in rows():
        db.execute(insert, row)
        db.execute(f"INSERT INTO {TEXTS}(rowid, text) VALUES (?, ?)", (row[0], row[-1]))
    db.execute("COMMIT")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {TABLE}({TABLE}) VALUES ('train')")
    db.execute("COMMIT")
