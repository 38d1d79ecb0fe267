//! The shipped library in hosts that do not know this crate: the stock shell, and every Python on this
//! machine.
#![cfg(feature = "loadable")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{library, program, scratch};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a script in the stock shell; none if there is no shell.
fn shell(database: &Path, script: &str) -> Option<Output> {
    use std::io::Write;
    use std::process::Stdio;
    let Some(shell) = program(&["sqlite3"]) else {
        println!("skipped: there is no sqlite3 shell");
        return None;
    };
    let mut child = Command::new(shell)
        .args(["-batch", "-bail"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

const SESSION: &str = "
CREATE VIRTUAL TABLE items USING ivf(vec float[3], nlist=4);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100)
INSERT INTO items(rowid, vec) SELECT i, json_array(i, i % 7, 0) FROM c;
INSERT INTO items(items) VALUES ('train');
BEGIN; DELETE FROM items; ROLLBACK;
SELECT rowid, round(distance, 3) FROM items WHERE vec MATCH '[50, 1, 0]' AND k = 2;
SELECT count(*) FROM items;
INSERT INTO items(items) VALUES ('integrity-check');
";

#[test]
fn the_stock_shell_loads_it_and_runs_a_session() {
    let (_folder, database) = scratch();
    let script = format!(".load {}\n{SESSION}", library().display());
    let Some(output) = shell(&database, &script) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "50|0.0\n49|1.414\n100\n", "{}", said(&output));
    // The next process finds it all.
    let again = format!(
        ".load {}\nSELECT rowid FROM items WHERE vec MATCH '[7,0,0]' AND k = 1;",
        library().display()
    );
    let output = shell(&database, &again).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n", "{}", said(&output));
}

#[test]
fn without_the_library_the_shell_says_what_is_missing() {
    let (_folder, database) = scratch();
    let script = format!(".load {}\n{SESSION}", library().display());
    if shell(&database, &script).is_none() {
        return;
    }
    let output = shell(&database, "SELECT count(*) FROM items;").unwrap();
    assert!(said(&output).contains("no such module: ivf"), "{}", said(&output));
}

#[test]
fn a_library_of_the_short_name_loads_too() {
    let (folder, database) = scratch();
    let short = folder.path().join(format!("ivf{}", std::env::consts::DLL_SUFFIX));
    std::fs::copy(library(), &short).unwrap();
    let Some(output) = shell(&database, &format!(".load {}\nSELECT ivf_version();", short.display())) else {
        return;
    };
    let expected = concat!("v", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", said(&output));
}

#[test]
fn loading_twice_is_no_harm() {
    let (_folder, database) = scratch();
    let load = format!(".load {}\n", library().display());
    let Some(output) = shell(&database, &format!("{load}{load}{SESSION}")) else { return };
    assert!(output.status.success() && said(&output).ends_with("100\n"), "{}", said(&output));
}

/// Every Python 3 whose SQLite loads extensions.
fn pythons() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .filter(|file| file.is_file())
        .collect();
    found.push("/usr/bin/python3".into());
    // /bin and /usr/bin are one folder on many systems.
    found = found.into_iter().map(|python| std::fs::canonicalize(&python).unwrap_or(python)).collect();
    found.sort();
    found.dedup();
    found.retain(|python| {
        let check = "import sqlite3; assert sqlite3.sqlite_version_info >= (3, 38); \
                     sqlite3.connect(':memory:').enable_load_extension(True)";
        let fits =
            Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success());
        if !fits {
            println!("skipped: {} has no SQLite from 3.38 that loads extensions", python.display());
        }
        fits
    });
    if found.is_empty() {
        println!("skipped: there is no Python that loads extensions");
    }
    found
}

const PYTHON: &str = r#"
import os, signal, sqlite3, struct, sys, time
library, database = sys.argv[1:]
signal.alarm(120)

def connect():
    db = sqlite3.connect(database)
    db.enable_load_extension(True)
    db.load_extension(library)
    return db

def vector(i):
    return struct.pack("<8f", *[float((i * 7919 + j * 104729) % 1000) for j in range(8)])

db = connect()
db.execute("CREATE VIRTUAL TABLE items USING ivf(vec float[8], train_at=off)")
db.executemany("INSERT INTO items(rowid, vec) VALUES (?, ?)", ((i, vector(i)) for i in range(3000)))
db.commit()
db.execute("INSERT INTO items(items) VALUES ('train')")
db.commit()
search = "SELECT rowid, distance FROM items WHERE vec MATCH ? AND k = 1 AND nprobe = -1"
assert all(db.execute(search, (vector(i),)).fetchone()[1] == 0.0 for i in range(50))

# Rolled back by leaving a block with an exception.
try:
    with db:
        db.execute("DELETE FROM items WHERE rowid < 100")
        raise KeyError
except KeyError:
    pass
assert db.execute("SELECT count(*) FROM items").fetchone() == (3000,)

# A time limit of the host.
begin = time.monotonic()
db.set_progress_handler(lambda: time.monotonic() - begin > 0.05, 1000)
try:
    batch = b"".join(vector(i) for i in range(3000)) * 20
    db.execute("SELECT count(*) FROM items WHERE batch MATCH ? AND k = 100 AND nprobe = -1", (batch,)).fetchone()
    raise SystemExit("not stopped")
except sqlite3.OperationalError as error:
    assert str(error) == "interrupted", error
db.set_progress_handler(None, 0)

# A forked child has no threads of its parent, and does not wait for them.
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            mine = connect()
            assert mine.execute(search, (vector(5),)).fetchone()[1] == 0.0
            batch = b"".join(vector(i) for i in range(300))
            sql = "SELECT count(*) FROM items WHERE batch MATCH ? AND k = 5"
            assert mine.execute(sql, (batch,)).fetchone() == (1500,)
            mine.execute("INSERT INTO items(items) VALUES ('train:{\"nlist\":20}')")
            mine.commit()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert db.execute("SELECT nlist FROM items_state").fetchone() == (20,)
assert db.execute(search, (vector(9),)).fetchone()[1] == 0.0
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print("done", sqlite3.sqlite_version)
"#;

#[test]
fn python_loads_it_and_runs_a_session() {
    for python in pythons() {
        let (_folder, database) = scratch();
        let output =
            Command::new(&python).args(["-c", PYTHON]).arg(library()).arg(&database).output().unwrap();
        assert!(
            output.status.success() && said(&output).contains("done"),
            "{}: {:?} {}",
            python.display(),
            output.status,
            said(&output)
        );
        println!("{}: {}", python.display(), said(&output).trim());
    }
}

#[test]
fn it_exports_its_entry_points_and_takes_no_sqlite_from_the_linker() {
    let Some(nm) = program(&["nm"]).filter(|_| cfg!(target_os = "linux")) else {
        println!("skipped: there is no nm");
        return;
    };
    let output = Command::new(nm).args(["-D"]).arg(library()).output().unwrap();
    let symbols = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |kind: &str| -> Vec<&str> {
        let words = symbols.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .filter(|words| words.len() >= 2 && words[words.len() - 2] == kind)
            .map(|w| w[w.len() - 1])
            .collect()
    };
    assert_eq!(of("T"), ["sqlite3_ivf_init", "sqlite3_sqliteivf_init"]);
    let undefined = of("U");
    assert!(undefined.len() > 10, "{symbols}");
    assert!(!undefined.iter().any(|name| name.starts_with("sqlite3_")), "{undefined:?}");
}

#[test]
fn it_needs_nothing_but_libc() {
    let Some(readelf) = program(&["readelf"]).filter(|_| cfg!(target_os = "linux")) else {
        println!("skipped: there is no readelf");
        return;
    };
    let output = Command::new(readelf).arg("-d").arg(library()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.split_once(']'))
        .map(|(name, _)| name)
        .collect();
    assert!(needed.iter().any(|name| name.starts_with("libc.so")), "{text}");
    let usual = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libpthread.so", "libdl.so"];
    for name in needed {
        assert!(usual.iter().any(|usual| name.starts_with(usual)), "it needs {name}");
    }
}
