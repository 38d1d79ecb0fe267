"""The plugin of Datasette, by the real Datasette: what each page and each JSON says, against a comparison of all rows."""

from __future__ import annotations

import asyncio
import hashlib
import html
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import quote

import numpy as np
import pytest

import sqlite_ivf
from conftest import nearest, random
from sqlite_ivf import Table
from sqlite_ivf.loading import LoadError, _opener

pytest.importorskip("datasette")
if _opener("sqlite3") is None:
    pytest.skip("sqlite3 cannot load extensions here", allow_module_level=True)

from datasette.app import Datasette
from datasette.plugins import pm
from datasette.utils import StartupError

import sqlite_ivf.datasette as plugin

if plugin not in pm.get_plugins():  # the source tree is not installed
    pm.register(plugin, name="sqlite-ivf")

NEW = hasattr(Datasette, "add_query")  # 1.0
ERROR = 200 if NEW else 400  # of a page that shows a query and its error
DIM = 16
WORDS = ["fox", "whale", "chess", "bread", "lens"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    # Datasette has SQLite print what a function raises.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def embed(text: str) -> List[float]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return random(1, DIM, seed)[0].tolist()  # type: ignore[no-any-return]


def wordless(text: str) -> List[float]:
    """What many functions make of a text without words that they know, and of none."""
    return {"...": [0.0] * DIM, "!": []}.get(text) if text in ("...", "!") else embed(text)  # type: ignore[return-value]


def failing(text: str) -> List[float]:
    raise OSError("no model here")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table with its own vectors, and one that is indexed, with words; 300 rows each."""
    path = tmp_path / "notes.db"
    db = sqlite3.connect(path)
    sqlite_ivf.load(db)
    rows = random(300, DIM)
    items = Table.create(db, "items", DIM, metric="cosine", columns={"year": "INTEGER", "lang": "TEXT", "+title": "TEXT"})
    titles = [f"{WORDS[i % 5]} {WORDS[i // 5 % 5]} {i}" for i in range(300)]
    langs = ["en", "de", "fr"] * 100
    metadata = {"year": [2000 + i % 25 for i in range(300)], "lang": langs, "title": titles}
    items.add(rows, range(1, 301), metadata)
    db.execute("CREATE TABLE articles(id INTEGER PRIMARY KEY, title TEXT, embedding BLOB)")
    db.executemany("INSERT INTO articles VALUES (?, ?, ?)", [(i + 1, titles[i], rows[i].tobytes()) for i in range(300)])
    index = Table.create(db, "articles_ivf", DIM, metric="cosine", column="embedding", content="articles", content_rowid="id")
    index.command("rebuild")
    db.execute("CREATE VIRTUAL TABLE articles_fts USING fts5(title, content='articles', content_rowid='id')")
    db.execute("INSERT INTO articles_fts(articles_fts) VALUES ('rebuild')")
    db.commit()
    db.close()
    return path


def opened(*files: Path, of_plugin: Optional[Dict[str, Any]] = None, **given: Any) -> Datasette:
    plugins = {"sqlite-ivf": {"embed": f"{__name__}:embed"} if of_plugin is None else of_plugin}
    configured = {"plugins": plugins, **given.pop("config", {})}
    return Datasette([str(each) for each in files], **{"config" if NEW else "metadata": configured}, **given)


def asked(ds: Datasette, *paths: str, **given: Any) -> List[Any]:
    """The answers to requests."""

    async def ask() -> List[Any]:
        await ds.invoke_startup()
        return [await ds.client.get(path, **given) for path in paths]

    return asyncio.run(ask())


def rows_of(ds: Datasette, path: str) -> List[Dict[str, Any]]:
    (answer,) = asked(ds, path)
    assert answer.status_code == 200, answer.text[:2000]
    return answer.json()  # type: ignore[no-any-return]


def sql_path(sql: str, database: str = "notes") -> str:
    return f"/{database}{'/-/query' if NEW else ''}.json?_shape=array&sql={quote(sql)}"


def test_every_connection_has_the_extension(file: Path) -> None:
    ds = opened(file)

    async def ask() -> List[Any]:
        await ds.invoke_startup()
        answers = [(await each.execute("SELECT vec_length('[1, 2]')")).rows[0][0] for each in ds.databases.values()]
        db = ds.get_database("notes")
        await db.execute_write("INSERT INTO items(rowid, vec) VALUES (999, ?)", [random(1, DIM, 9)[0].tobytes()])
        return [*answers, (await db.execute("SELECT count(*) FROM items WHERE rowid = 999")).rows[0][0]]

    *answers, written = asyncio.run(ask())
    assert set(answers) == {2} and written == 1


def test_a_typed_text_finds_the_rows_nearest_to_its_vector(file: Path) -> None:
    expected = [row + 1 for row in nearest(random(300, DIM), np.array(embed("red")), 7, "cosine")]
    for path, key in [("/notes/items_search", "rowid"), ("/notes/articles_search", "id")]:
        found = rows_of(opened(file), f"{path}.json?_shape=array&text=red&k=7")
        assert [row[key] for row in found] == expected
        assert all(row["title"].endswith(f" {row[key] - 1}") for row in found)
        assert len(rows_of(opened(file), f"{path}.json?_shape=array&text=red")) == 20


@pytest.mark.parametrize("element", ["float16", "bfloat16", "int8", "bit"])
def test_a_typed_text_is_asked_in_the_elements_of_the_column(element: str, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "notes.db")
    sqlite_ivf.load(db)
    Table.create(db, "items", DIM, element=element)
    rows = random(100, DIM)
    convert = {"int8": "vec_quantize_int8(vec_normalize({}), 'unit')", "bit": "vec_quantize_binary({})"}.get(element, "vec_f32({})")
    stored = [(i, row.tobytes()) for i, row in enumerate(rows)]
    db.executemany(f"INSERT INTO items(rowid, vec) VALUES (?, {convert.format('?')})", stored)
    db.commit()
    query = np.array(unit("red"), np.float32).tobytes()
    expected = [row for (row,) in db.execute(f"SELECT rowid FROM items WHERE vec MATCH {convert.format('?')} AND k = 5", (query,))]
    db.close()
    ds = opened(tmp_path / "notes.db", of_plugin={"embed": f"{__name__}:unit"})
    assert [row["rowid"] for row in rows_of(ds, "/notes/items_search.json?_shape=array&text=red&k=5")] == expected
    (page,) = asked(ds, "/notes/items")
    numbers = table_text(page.text)[0]["vec"]
    shown = {"bit": r"bit\[16\] \[[01](, [01]){7}, …\]", "int8": r"int8\[16\] \[(-?\d+, ){3}…\]"}
    assert re.match(shown.get(element, rf"{element}\[16\] \[(-?[\d.]+, ){{3}}…\]"), numbers), numbers


def unit(text: str) -> List[float]:
    vector = np.array(embed(text))
    return (vector / np.linalg.norm(vector)).tolist()  # type: ignore[no-any-return]


def table_text(page: str) -> List[Dict[str, str]]:
    """The rows of a page's table, as texts."""

    def plain(cell: str) -> str:
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).replace("▼", "").split())

    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.S) for line in re.findall(r"<tr.*?</tr>", page, re.S)]
    return [dict(zip(map(plain, lines[0]), map(plain, line))) for line in lines[1:]]


def test_a_row_finds_rows_like_it_by_the_link_beside_its_vector(file: Path) -> None:
    rows = random(300, DIM)
    for table, key in [("items", "rowid"), ("articles", "id")]:
        ds = opened(file)
        page, row_page = asked(ds, f"/notes/{table}", f"/notes/{table}/17")
        for each in (page, row_page):
            links = re.findall(rf'href="(/notes/{table}_similar\?{key}=17)"', each.text)
            assert len(links) == 1
        found = rows_of(ds, links[0].replace("?", ".json?_shape=array&k=5&"))
        assert [row[key] for row in found] == [i + 1 for i in nearest(rows, rows[16], 5, "cosine")]
        vector = table_text(row_page.text)[0]["vec" if table == "items" else "embedding"]
        assert vector == f"float[16] [{', '.join(format(x, '.2g') for x in rows[16][:3])}, …] similar rows"
        assert "Binary" not in page.text


def test_a_row_with_a_key_of_two_columns_finds_rows_like_it(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "notes.db")
    sqlite_ivf.load(db)
    db.execute('CREATE TABLE pages(k INTEGER, "the id" TEXT, v BLOB, PRIMARY KEY(k, "the id"))')
    rows = random(40, DIM)
    db.executemany("INSERT INTO pages VALUES (?, ?, ?)", [(i % 2, f"p{i}", row.tobytes()) for i, row in enumerate(rows)])
    Table.create(db, "near", DIM, column="v", content="pages").command("rebuild")
    db.commit()
    db.close()
    ds = opened(tmp_path / "notes.db")
    (page,) = asked(ds, "/notes/pages?k=1&_size=1")
    (link,) = re.findall(r'href="(/notes/pages_similar\?[^"]*)"', page.text)
    found = rows_of(ds, html.unescape(link).replace("?", ".json?_shape=array&k=3&"))
    assert [row["the id"] for row in found] == [f"p{i}" for i in nearest(rows, rows[1], 3)]


def test_a_typed_text_is_also_asked_of_the_words(file: Path) -> None:
    db = sqlite3.connect(file)
    sqlite_ivf.load(db)
    expected = Table(db, "articles_ivf").hybrid("articles_fts", embed("fox 17"), "fox 17", k=9).ids.tolist()
    db.close()
    found = rows_of(opened(file), "/notes/articles_hybrid.json?_shape=array&text=fox+17&k=9")
    assert [row["id"] for row in found] == expected
    assert expected[0] != nearest(random(300, DIM), np.array(embed("fox 17")), 1, "cosine")[0] + 1


def test_an_empty_form_finds_nothing_and_a_wrong_k_says_so(file: Path) -> None:
    ds = opened(file)
    pages = asked(ds, "/notes/items_search", "/notes/items_similar", "/notes/articles_hybrid", "/notes/items_search?text=a&k=some")
    assert [page.status_code for page in pages] == [200, 200, 200, ERROR]
    assert all("0 results" in page.text for page in pages[:3])
    assert "k must be a whole number from 0, got 'some'" in html.unescape(pages[3].text)


def test_pages_json_and_csv_have_no_columns_that_are_parameters(file: Path) -> None:
    ds = opened(file)
    page, csv = asked(ds, "/notes/items", "/notes/items.csv?_size=1")
    assert [*table_text(page.text)[0]] == ["Link", "rowid", "vec", "year", "lang", "title"]
    assert "nprobe" not in page.text
    assert csv.text.splitlines()[0] == "rowid,vec,year,lang,title"
    assert [*rows_of(ds, "/notes/items.json?_shape=array&_size=1")[0]] == ["rowid", "vec", "year", "lang", "title"]


def test_facets_count_a_metadata_column_also_among_the_nearest_rows(file: Path) -> None:
    ds = opened(file)
    facets = "&_facet=lang&_extra=facet_results" if NEW else "&_facet=lang"
    near = quote("rowid in (select rowid from items where vec match embed('red') and k = 30)")
    direct = quote("vec match embed('red') and k = 30")
    for where, rows in [("", range(300)), (f"&_where={near}", None), (f"&_where={direct}", None)]:
        counted = rows if rows is not None else nearest(random(300, DIM), np.array(embed("red")), 30, "cosine")
        answer = asked(ds, f"/notes/items.json?_size=5{where}{facets}")[0].json()
        results = answer["facet_results"].get("results", answer["facet_results"])["lang"]["results"]
        assert {each["value"]: each["count"] for each in results} == {
            lang: sum(["en", "de", "fr"][i % 3] == lang for i in counted) for lang in ("en", "de", "fr")
        }
    page, filtered = asked(ds, f"/notes/items?_facet=lang&_where={direct}", "/notes/items?year=2003&_facet=lang")
    assert [page.status_code, filtered.status_code] == [200, 200]
    assert len(table_text(page.text)) == 30
    assert {row["year"] for row in table_text(filtered.text)} == {"2003"}


def test_the_inside_of_a_table_is_hidden(file: Path) -> None:
    ds = opened(file)
    (answer,) = asked(ds, "/notes.json")
    shown = {table["name"] for table in answer.json()["tables"] if not table["hidden"]}
    assert shown - {"articles_ivf"} == {"items", "articles"}
    assert NEW or "articles_ivf" not in shown


def test_the_time_limit_ends_a_search(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "notes.db")
    sqlite_ivf.load(db)
    table = Table.create(db, "items", 256, train_at="off")
    table.add(random(20_000, 256), range(20_000))
    db.commit()
    db.close()
    ds = opened(tmp_path / "notes.db", **{"settings": {"sql_time_limit_ms": 200}})
    slow = "SELECT query FROM items WHERE batch MATCH (SELECT vec_pack(vec) FROM items) AND k = 1"
    (answer,) = asked(ds, sql_path(slow))
    assert answer.status_code == 400
    assert "interrupted" in answer.text.lower() or "too long" in answer.text
    quick = "SELECT rowid FROM items WHERE vec MATCH (SELECT vec FROM items WHERE rowid = 5) AND k = 1"
    assert rows_of(ds, sql_path(quick)) == [{"rowid": 5}]


@pytest.mark.parametrize("immutable", [False, True])
def test_a_file_is_read_and_stays_as_it_is(immutable: bool, file: Path) -> None:
    before = file.read_bytes()
    file.chmod(0o444)
    ds = opened(immutables=[str(file)]) if immutable else opened(file)
    assert len(rows_of(ds, "/notes/items_search.json?_shape=array&text=red&k=4")) == 4
    commands = ["INSERT INTO items(items) VALUES ('train')", "SELECT ivf_salvage('items', 'saved')"]
    for sql in [*commands, "SELECT ivf_command('items', 'unload')"]:
        (answer,) = asked(ds, sql_path(sql))
        assert answer.status_code in (400, 403), sql
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"embed": "no_such_module:embed"}, ["plugins: sqlite-ivf: embed", "no_such_module:embed", "No module named"]),
        ({"embed": f"{__name__}:nothing"}, ["plugins: sqlite-ivf: embed", "nothing"]),
        ({"embed": f"{__name__}:DIM"}, ["plugins: sqlite-ivf: embed", "a function is expected, got int"]),
        ({"embed": "embed"}, ["plugins: sqlite-ivf: embed: 'module:function'", "'embed'"]),
        ({"embed": ["a:b"]}, ["plugins: sqlite-ivf: embed: 'module:function'", "['a:b']"]),
        ({"embed": {"e m": "a:b"}}, ["plugins: sqlite-ivf: embed", "'e m'"]),
        ({"embbed": "a:b"}, ["unknown setting 'embbed', expected one of embed, queries"]),
        ({"queries": "no"}, ["queries: true or false is expected, got 'no'"]),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(settings: Dict[str, Any], told: List[str], file: Path) -> None:
    with pytest.raises(StartupError) as error:
        asked(opened(file, of_plugin=settings), "/")
    for each in told:
        assert each in str(error.value)


def test_a_setting_of_a_table_chooses_the_function_and_the_words(file: Path) -> None:
    functions = {"embed": f"{__name__}:embed", "embed_unit": f"{__name__}:unit"}

    def of(settings: Dict[str, Any]) -> Datasette:
        tables = {"notes": {"tables": {"items": {"plugins": {"sqlite-ivf": settings}}}}}
        return opened(file, of_plugin={"embed": functions, "queries": True}, config={"databases": tables})

    ds = of({"function": "embed_unit", "fts": "articles_fts"})
    (page,) = asked(ds, "/notes/items_search?text=a&_show_sql=1")
    assert "embed_unit(:text)" in html.unescape(page.text)
    assert len(rows_of(ds, "/notes/items_hybrid.json?_shape=array&text=fox&k=3")) == 3
    assert asked(of({"queries": False}), "/notes/items_search")[0].status_code == 404
    with pytest.raises(StartupError, match=r"function: .*\(embed, embed_unit\), got 'other'"):
        asked(of({"function": "other"}), "/")


def test_settings_of_a_table_that_there_is_not_are_told_at_the_start(file: Path) -> None:
    def of(table: str) -> Datasette:
        tables = {table: {"plugins": {"sqlite-ivf": {"queries": False}}}, "plain": {"hidden": True}}
        return opened(file, config={"databases": {"notes": {"tables": tables}}})

    told = (
        r"databases: notes: tables: Items: plugins: sqlite-ivf: there is no such table USING ivf, or indexed by one; "
        r"those of notes are articles, articles_ivf, items"
    )
    with pytest.warns(RuntimeWarning, match=told):
        assert asked(of("Items"), "/notes")[0].status_code == 200
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for table in ("items", "articles", "articles_ivf"):
            assert asked(of(table), "/notes")[0].status_code == 200


def test_a_text_without_words_finds_nothing_by_meaning_and_the_page_says_what_to_do(file: Path) -> None:
    ds = opened(file, of_plugin={"embed": f"{__name__}:wordless"})
    for text in ("...", "!"):
        for name in ("items_search", "articles_search", "articles_hybrid"):
            (page,) = asked(ds, f"/notes/{name}?text={text}")
            assert page.status_code == 200, page.text
            assert "A text without words, of which the function makes no vector or only zeros, finds nothing" in page.text
            assert rows_of(ds, f"/notes/{name}.json?_shape=array&text={text}") == []
    assert len(rows_of(ds, "/notes/articles_search.json?_shape=array&text=red&k=3")) == 3


def test_a_function_that_fails_is_an_error_of_the_query_and_the_log_names_the_setting(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: List[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(str(raised.exc_value)))
    (page,) = asked(opened(file, of_plugin={"embed": f"{__name__}:failing"}), "/notes/items_search?text=red")
    assert page.status_code == ERROR
    assert "user-defined function raised exception" in page.text
    assert any("plugins: sqlite-ivf: embed" in each and "no model here" in each for each in told), told


def test_a_table_that_is_not_for_everybody_is_not_read_by_a_query(file: Path) -> None:
    denied = {"databases": {"notes": {"tables": {"items": {"allow": {"id": "root"}}}}}}
    ds = opened(file, config=denied)
    if NEW:  # there it takes the right to run SQL
        ds = opened(file, config={**denied, "permissions": {"execute-sql": {"id": "root"}}})
    for path in ("/notes/items_search.json?text=red", "/notes/items_similar.json?rowid=1"):
        assert asked(ds, path)[0].status_code in (403, 404)
    root = {"ds_actor": ds.sign({"a": {"id": "root"}}, "actor")}
    allowed = asked(ds, "/notes/items_search.json?text=red&_shape=array", cookies=root)
    assert allowed[0].status_code == 200
    assert len(allowed[0].json()) == 20


def test_a_query_of_the_user_stays(file: Path) -> None:
    config = {"databases": {"notes": {"queries": {"items_search": {"sql": "select 5 as five"}}}}}
    assert rows_of(opened(file, config=config), "/notes/items_search.json?_shape=array") == [{"five": 5}]


def test_a_table_made_later_has_queries_and_one_dropped_has_none(file: Path) -> None:
    ds = opened(file)

    async def ask() -> List[Any]:
        await ds.invoke_startup()
        db = ds.get_database("notes")
        await db.execute_write("CREATE VIRTUAL TABLE later USING ivf(vec float[2])")
        await db.execute_write("DROP TABLE items")
        await ds.client.get("/notes/later")
        return [await ds.client.get(path) for path in ("/notes/later_similar", "/notes/items_similar", "/notes/later")]

    later, dropped, page = asyncio.run(ask())
    assert [later.status_code, dropped.status_code, page.status_code] == [200, 404, 200]
    assert "/notes/later_similar" in page.text


def test_where_the_library_does_not_load_datasette_works_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(connection: object) -> None:
        raise LoadError("the library does not load: it is a test")

    monkeypatch.setattr(plugin, "load", load)
    db = sqlite3.connect(tmp_path / "notes.db")
    db.execute("CREATE TABLE articles(id INTEGER PRIMARY KEY, title TEXT)")
    db.close()
    with pytest.warns(RuntimeWarning, match="it is a test"):
        answers = asked(opened(tmp_path / "notes.db"), "/", "/notes", "/notes/articles")
    assert [each.status_code for each in answers] == [200, 200, 200]


def test_the_function_may_be_in_a_file_of_the_plugins_folder(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "model_of_mine.py").write_text(f"def embed(text):\n    return [1.0] + [0.0] * {DIM - 1}\n")
    ds = opened(file, of_plugin={"embed": "model_of_mine:embed"}, plugins_dir=str(folder))
    found = rows_of(ds, "/notes/items_search.json?_shape=array&text=red&k=3")
    assert [row["rowid"] - 1 for row in found] == nearest(random(300, DIM), np.eye(DIM)[0], 3, "cosine")


def test_the_package_names_the_plugin(entry_points: Dict[str, str]) -> None:
    out = subprocess.run([sys.executable, "-m", "datasette", "plugins"], capture_output=True, text=True, env=entry_points)
    assert '"sqlite-ivf"' in out.stdout, out.stderr
    assert "prepare_connection" in out.stdout


def test_the_program_of_the_page_runs(tmp_path: Path, page_program: Any) -> None:
    out = page_program("datasette.md")
    assert "A telescope uses mirrors or lenses" in out


@pytest.fixture
def served(file: Path, tmp_path: Path, entry_points: Dict[str, str]) -> Iterator[str]:
    """Datasette as a program, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "toy.py").write_text(f"def embed(text):\n    return [float(len(text))] + [1.0] * {DIM - 1}\n")
    (tmp_path / "settings.json").write_text('{"plugins": {"sqlite-ivf": {"embed": "toy:embed"}}}')
    command = [sys.executable, "-m", "datasette", str(file), "-h", "127.0.0.1", "-p", str(port)]
    command += ["--plugins-dir", str(tmp_path / "plugins"), "-c" if NEW else "-m", str(tmp_path / "settings.json")]
    process = subprocess.Popen(command, env=entry_points, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def test_a_browser_shows_the_pages(served: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")

    def dom(path: str, width: int) -> str:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--window-size={width},844", "--virtual-time-budget=3000", "--dump-dom", served + path]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout

    for width in (1280, 390):
        table = table_text(dom("/notes/items?_size=5&_facet=lang", width))
        assert len(table) == 5 and table[0]["vec"].startswith("float[16] [")
    assert 'href="/notes/items_similar?rowid=17"' in dom("/notes/items/17", 1280)
    assert len(table_text(dom("/notes/items_search?text=red+fox&k=4", 390))) == 4
    assert "items: search by meaning" in dom("/notes", 390)
