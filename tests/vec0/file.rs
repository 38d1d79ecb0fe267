//! The library as a file under other names, in the stock shell. `SQLITE_IVF_DROP_IN` names a library built
//! with only the features `loadable,vec0`, as `.ci/run` does. The library of this test also has the feature
//! `rusqlite`, and therefore other entry points.

use std::path::PathBuf;
use std::process::Command;

use super::common::{program, scratch};

#[test]
fn the_file_loads_under_the_names_that_programs_look_for() {
    let (Some(library), Some(shell)) = (std::env::var_os("SQLITE_IVF_DROP_IN"), program(&["sqlite3"])) else {
        println!("skipped: SQLITE_IVF_DROP_IN names no library, or there is no sqlite3 shell");
        return;
    };
    let library = PathBuf::from(library);
    let end = library.extension().unwrap_or_default().to_string_lossy();
    for name in ["vec0", "libvec0", "libsqlite_ivf", "sqlite_ivf", "ivf", "libsqlite_ivf_vec0", "sqlite_vec"]
    {
        let (folder, database) = scratch();
        let copy = folder.path().join(name);
        std::fs::copy(&library, copy.with_extension(&*end)).unwrap();
        let output = Command::new(&shell)
            .args(["-batch", "-bail"])
            .arg(&database)
            .arg(format!(".load {}", copy.display()))
            .arg("CREATE VIRTUAL TABLE v USING vec0(e float[2]); INSERT INTO v(rowid, e) VALUES (7, '[1, .5]')")
            .arg("SELECT rowid, vec_to_json(e), vec_version() >= 'v0.1.6' FROM v WHERE e MATCH '[1, 1]' AND k = 1")
            .output()
            .unwrap();
        let json = if name.contains("vec") && !name.contains("ivf") || name == "libsqlite_ivf_vec0" {
            "[1.000000,0.500000]"
        } else {
            "[1.0,0.5]"
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, format!("7|{json}|1\n"), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
