//! What stands between the parentheses of CREATE VIRTUAL TABLE, the table's name, and commands.

use rusqlite::types::Value;

use super::{Bytes, ask, integer, open};

const WORDS: [&str; 46] = [
    "vec",
    "float",
    "[3]",
    "[16384]",
    "[0]",
    "[",
    "]",
    ",",
    "=",
    " ",
    "\"",
    "'",
    "`",
    "\"a \"\"b\"",
    "--",
    "/*",
    "*/",
    "distance_metric",
    "l2",
    "cosine",
    "ip",
    "nlist",
    "nprobe",
    "max_codes",
    "quantizer",
    "train_at",
    "search_mode",
    "device",
    "seed",
    "auto",
    "off",
    "none",
    "int8",
    "csr",
    "-1",
    "0.5",
    "18446744073709551616",
    "9e999",
    "5",
    "é",
    "float16",
    "bfloat16",
    "bit",
    "[16]",
    "l1",
    "hamming",
];
const COMMANDS: [&str; 12] = [
    "train",
    "train:{\"nlist\":2}",
    "train:{\"nlist\":16777215,\"seed\":-1}",
    "rebuild",
    "optimize",
    "integrity-check",
    "nprobe=0.5",
    "max_codes=1",
    "preload",
    "unload",
    "device=cpu",
    "delete-all",
];

/// Inputs to begin with.
pub const SEEDS: [&[u8]; 9] = [
    b"\0\0t\x1dvec float[3]",
    b"\0\0t\x2avec float[4] distance_metric=cosine, nlist=2",
    b"\0\0\"t\x3f\"v c\" f32 [2], nlist = 'auto', nprobe=0.25, train_at=2, seed=7  ",
    b"\0\0a_b\x40vec float[3], quantizer=none, search_mode=csr, device=cuda:1, max_codes=2",
    b"\0\0t\x21vec float16[3] distance_metric=l1",
    b"\0\0t\x14vec bit[16], nlist=2",
    b"\0\0t\x0cvec int8[4] ",
    b"\x01\x01t\x08\0\x01\x02\x07\x15\x08\x26\x07\x19\x08\x1f",
    b"\x01\x03t t\x0a\0\x09\x01\x02\x07\x18\x08\x1f\x07\x1c\x08\x26\x01\x02train:{}",
];

pub fn body(data: &[u8]) {
    let mut bytes = Bytes(data);
    let words = bytes.byte() % 2 == 1;
    let length = bytes.byte() as usize % 24 + 1;
    let name = String::from_utf8_lossy(bytes.some(length)).replace('\0', "");
    let length = bytes.byte() as usize;
    let arguments = match words {
        true => bytes.some(length % 40).iter().map(|&b| WORDS[b as usize % WORDS.len()]).collect(),
        false => String::from_utf8_lossy(bytes.some(length)).replace('\0', ""),
    };
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let host = open();
    let things = |host| integer(host, "SELECT count(*) FROM sqlite_schema");
    if ask(&host, &format!("CREATE VIRTUAL TABLE {quoted} USING ivf({arguments})"), []).is_err() {
        assert_eq!(things(&host), 0, "{name}: {arguments}");
        return;
    }
    // A comment may have swallowed the parenthesis, and the column's name may be anything.
    let column = ask(&host, "SELECT name FROM pragma_table_info(?1)", [&name]).unwrap();
    let Value::Text(column) = &column[0][0] else { panic!("{column:?}") };
    let column = format!("\"{}\"", column.replace('"', "\"\""));
    let stats = ask(&host, "SELECT dim, element FROM ivf_stats(?1)", [&name])
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let (Value::Integer(dim), Value::Text(element)) = (&stats[0][0], &stats[0][1]) else {
        panic!("{stats:?}")
    };
    let dim = *dim;
    let made = |place: &str| match element.as_str() {
        "float16" => format!("vec_f16(vec_f32({place}))"),
        "bfloat16" => format!("vec_bf16(vec_f32({place}))"),
        "int8" => format!("vec_quantize_int8({place}, 'unit')"),
        "bit" => format!("vec_quantize_binary({place})"),
        _ => place.to_string(),
    };
    let vector = |i: i64| (0..dim).flat_map(move |d| ((i + d % 7) as f32).to_le_bytes()).collect::<Vec<u8>>();
    for i in 1..5 {
        let sql = format!("INSERT INTO {quoted}(rowid, {column}) VALUES (?1, {})", made("?2"));
        ask(&host, &sql, (i, vector(i))).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let search = || {
        let sql = format!(
            "SELECT rowid, {column} FROM {quoted} WHERE {column} MATCH {} AND k = 9 AND nprobe = -1 AND max_codes = 0",
            made("?1")
        );
        ask(&host, &sql, [vector(2)]).unwrap_or_else(|error| panic!("{name}: {error}")).len()
    };
    assert_eq!(search(), 4);
    for _ in 0..8 {
        if bytes.is_empty() {
            break;
        }
        let command = match bytes.byte() {
            0 => String::from_utf8_lossy(bytes.some(data.len())).into_owned(),
            byte => COMMANDS[byte as usize % COMMANDS.len()].to_string(),
        };
        let done = ask(&host, &format!("INSERT INTO {quoted}({quoted}) VALUES (?1)"), [&command]);
        let sound = ask(&host, &format!("INSERT INTO {quoted}({quoted}) VALUES ('integrity-check')"), []);
        assert_eq!(sound, Ok(Vec::new()), "after {command}: {done:?}");
    }
    assert!([0, 4].contains(&search()));
    // Another connection reads the arguments again.
    let mut other = open();
    rusqlite::backup::Backup::new(&host, &mut other).unwrap().step(-1).unwrap();
    ask(&other, &format!("INSERT INTO {quoted}({quoted}) VALUES ('integrity-check')"), []).unwrap();
    ask(&host, &format!("DROP TABLE {quoted}"), []).unwrap();
    assert_eq!(things(&host), 0, "{name}: {arguments}");
}
