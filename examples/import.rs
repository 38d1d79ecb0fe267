//! Copies vectors from a file into a table, with the row's number, from 0, as its rowid: the id that faiss gives it.
//!
//! `cargo run --release --example import -- FILE DATABASE TABLE [l2|cosine|ip]`
//!
//! FILE is a `.npy` of two dimensions (float16, float32 or float64) or a `.fvecs`. The table is made if it is not there.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use npyz::{Deserialize, NpyFile, Order};
use rusqlite::Connection;
use sqlite_ivf::{Metric, Table, TableOptions};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// Vectors, one after the other.
type Vectors = Box<dyn Iterator<Item = io::Result<Vec<f32>>>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (file, database, name, metric) = match args.as_slice() {
        [file, database, name] => (file, database, name, Metric::L2),
        [file, database, name, metric] => {
            (file, database, name, Metric::from_name(metric).ok_or("the metric is l2, cosine or ip")?)
        }
        _ => return Err("usage: import FILE DATABASE TABLE [l2|cosine|ip]".into()),
    };
    let db = Connection::open(database)?;
    sqlite_ivf::register(&db)?;
    let rows = import(&db, Path::new(file), name, metric)?;
    println!("{rows} rows of {file} are in {name} of {database}");
    Ok(())
}

/// All vectors of a file, in one transaction; how many.
fn import(db: &Connection, file: &Path, name: &str, metric: Metric) -> Result<usize> {
    let mut vectors = open(file)?.peekable();
    let dim = match vectors.peek() {
        Some(Ok(first)) => first.len(),
        Some(Err(_)) => return Err(vectors.next().and_then(io::Result::err).unwrap().into()),
        None => return Err("the file holds no vector".into()),
    };
    let transaction = db.unchecked_transaction()?;
    let table = match Table::open(db, name) {
        Ok(table) => table,
        Err(_) => Table::create(db, name, &TableOptions::new(dim).metric(metric))?,
    };
    let mut rows = 0;
    for vector in vectors {
        table.insert(rows, &vector?)?;
        rows += 1;
    }
    transaction.commit()?;
    Ok(rows as usize)
}

fn open(path: &Path) -> Result<Vectors> {
    let mut file = BufReader::new(File::open(path)?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("fvecs") => Ok(Box::new(std::iter::from_fn(move || fvecs(&mut file).transpose()))),
        Some("npy") => {
            let file = NpyFile::new(file)?;
            let (&[_, dim], Order::C) = (file.shape(), file.order()) else {
                return Err("the array must have two dimensions, in C order".into());
            };
            let dim = usize::try_from(dim)?;
            let element = file.dtype().descr();
            Ok(match element.trim_matches('\'') {
                "<f2" => rows(file.data::<half::f16>()?, dim, half::f16::to_f32),
                "<f4" => rows(file.data::<f32>()?, dim, |v| v),
                "<f8" => rows(file.data::<f64>()?, dim, |v| v as f32),
                _ => {
                    return Err(format!("the elements are {element}, not float16, float32 or float64").into());
                }
            })
        }
        _ => Err("the file must be a .npy or a .fvecs".into()),
    }
}

fn rows<T: Deserialize + 'static>(
    mut numbers: npyz::NpyReader<T, BufReader<File>>,
    dim: usize,
    to_f32: fn(T) -> f32,
) -> Vectors {
    Box::new(std::iter::from_fn(move || {
        let row: io::Result<Vec<f32>> = numbers.by_ref().take(dim).map(|v| v.map(to_f32)).collect();
        Some(row).filter(|row| row.as_ref().map_or(true, |row| !row.is_empty()))
    }))
}

/// The next vector of a `.fvecs`: a little-endian u32 with the dimension, then that many f32.
fn fvecs(file: &mut impl Read) -> io::Result<Option<Vec<f32>>> {
    let mut dim = [0; 4];
    match file.read_exact(&mut dim) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut bytes = Vec::new();
    let wanted = u64::from(u32::from_le_bytes(dim)) * 4;
    if file.take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;
    use sqlite_ivf::Search;

    fn imported(file: &str, bytes: &[u8]) -> Result<(Connection, usize)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(file);
        std::fs::write(&path, bytes)?;
        let db = Connection::open_in_memory()?;
        sqlite_ivf::register(&db)?;
        let rows = import(&db, &path, "t", Metric::L2)?;
        Ok((db, rows))
    }

    fn npy<T: npyz::Serialize + npyz::AutoSerialize>(shape: &[u64], numbers: &[T]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
        numbers.iter().for_each(|number| writer.push(number).unwrap());
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_file_gives_its_rows() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5_f64];
        let fvecs: Vec<u8> = numbers
            .chunks(2)
            .flat_map(|row| {
                let floats = row.iter().flat_map(|&v| (v as f32).to_le_bytes());
                2_u32.to_le_bytes().into_iter().chain(floats).collect::<Vec<u8>>()
            })
            .collect();
        for (file, bytes) in [
            ("a.npy", npy(&[3, 2], &numbers)),
            ("b.npy", npy(&[3, 2], &numbers.map(|v| v as f32))),
            ("c.npy", npy(&[3, 2], &numbers.map(half::f16::from_f64))),
            ("d.fvecs", fvecs),
        ] {
            let (db, rows) = imported(file, &bytes).unwrap();
            assert_eq!(rows, 3, "{file}");
            let hits = Table::open(&db, "t").unwrap().search(&[5.0, 6.5], &Search::new(1)).unwrap();
            assert_eq!((hits[0].rowid, hits[0].distance), (2, 0.0), "{file}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_or_of_another_shape_leaves_no_row() {
        let whole = npy(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.0]);
        assert!(imported("a.npy", &whole[..whole.len() - 2]).is_err());
        assert!(imported("a.npy", &npy(&[4], &[1.0_f32, 2.0, 3.0, 4.0])).is_err());
        assert!(imported("a.npy", &npy(&[1, 1], &[1_i32])).is_err());
        assert!(imported("a.fvecs", &[2, 0, 0, 0, 1, 2]).is_err());
        assert!(imported("a.fvecs", &[]).is_err());
        assert!(imported("a.csv", b"1,2").is_err());
    }
}
