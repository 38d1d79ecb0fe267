//! The public API, item by item, equals the list in `tests/public-api.txt`, so that no change of it goes
//! unnoticed.
//!
//! `UPDATE_PUBLIC_API=1 cargo test --test public_api` writes the list again. It covers the features that make
//! up the API, without `unstable`. The items come from rustdoc's JSON, whose format depends on the toolchain.
//! With another format than the expected one the test says so and compares nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The features whose items are listed.
const FEATURES: &str = "rusqlite,vec0";
/// The format of rustdoc's JSON that `public_api` reads.
const FORMAT: u64 = 57;

/// Calls rustdoc as cargo asks, with its unstable output allowed. cargo itself does not see that: it would
/// build all dependencies anew.
#[cfg(unix)]
fn rustdoc_that_writes_json(folder: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("rustdoc");
    fs::write(&path, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn the_public_face_is_the_one_that_is_listed() {
    if std::env::var_os("RUSTFLAGS").is_some() {
        println!("not compared: with RUSTFLAGS all dependencies would be built anew");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["rustdoc", "--quiet", "--lib", "--features", FEATURES, "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", rustdoc_that_writes_json(folder.path()))
        .env_remove("RUSTDOCFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "rustdoc wrote no JSON");
    let json = target.join("doc/sqlite_ivf.json");
    let text = fs::read_to_string(&json).unwrap();
    let format = serde_json::from_str::<serde_json::Value>(&text).unwrap()["format_version"].as_u64();
    if format != Some(FORMAT) {
        println!(
            "not compared: this rustdoc writes format {format:?} of its JSON, public_api reads {FORMAT}"
        );
        return;
    }
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(false)
        .build()
        .unwrap();
    let found: String = api.items().map(|item| format!("{item}\n")).collect();
    let list = root.join("tests/public-api.txt");
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&list, &found).unwrap();
        return;
    }
    let listed = fs::read_to_string(&list).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    let (listed, found) = (lines(&listed), lines(&found));
    let gone: Vec<_> = listed.iter().filter(|line| !found.contains(line)).collect();
    let new: Vec<_> = found.iter().filter(|line| !listed.contains(line)).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public face has changed.\ngone: {gone:#?}\nnew: {new:#?}\nUPDATE_PUBLIC_API=1 writes tests/public-api.txt anew"
    );
}
