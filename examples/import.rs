//! Copies vectors from a file into a table. The rowid of a row is its position in the file, from 0, as in faiss.
//!
//! `cargo run --release --example import -- FILE DATABASE TABLE [l2|cosine|ip]`
//!
//! FILE is a `.npy` of two dimensions (float16, float32 or float64), a `.fvecs`, or a column of lists of such numbers in a
//! `.parquet`: `FILE.parquet:COLUMN` where there are several, `FILE.parquet:COLUMN:ID` to have the rowids from a column of
//! integers. The table is created if it does not exist.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use npyz::{Deserialize, NpyFile, Order};
use parquet::basic::{LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use rusqlite::Connection;
use sqlite_ivf::{Metric, Table, TableOptions};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// Rowids and vectors.
type Rows = Box<dyn Iterator<Item = Result<(i64, Vec<f32>)>>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (file, database, name, metric) = match args.as_slice() {
        [file, database, name] => (file, database, name, Metric::L2),
        [file, database, name, metric] => (file, database, name, metric.parse()?),
        _ => return Err("usage: import FILE DATABASE TABLE [l2|cosine|ip]".into()),
    };
    let db = Connection::open(database)?;
    sqlite_ivf::register(&db)?;
    let rows = import(&db, file, name, metric)?;
    println!("{rows} rows of {file} are in {name} of {database}");
    Ok(())
}

/// Inserts all vectors of a file in one transaction. Returns how many.
fn import(db: &Connection, file: &str, name: &str, metric: Metric) -> Result<usize> {
    let mut rows = open(file)?.peekable();
    let dim = match rows.peek() {
        Some(Ok((_, first))) => first.len(),
        Some(Err(_)) => return Err(rows.next().and_then(Result::err).unwrap()),
        None => return Err("the file holds no vector".into()),
    };
    let transaction = db.unchecked_transaction()?;
    let table = match Table::open(db, name) {
        Ok(table) => table,
        Err(_) => Table::create(db, name, &TableOptions::new(dim).metric(metric))?,
    };
    let mut count = 0;
    for row in rows {
        let (rowid, vector) = row?;
        table.insert(rowid, &vector)?;
        count += 1;
    }
    transaction.commit()?;
    Ok(count)
}

fn open(file: &str) -> Result<Rows> {
    // A path may have colons of its own.
    let (path, columns) = match file.rsplit_once(".parquet:") {
        Some((stem, columns)) => (format!("{stem}.parquet"), Some(columns)),
        None => (file.to_string(), None),
    };
    let path = Path::new(&path);
    let mut file = BufReader::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("fvecs") => Ok(numbered(std::iter::from_fn(move || fvecs(&mut file).transpose()))),
        Some("npy") => {
            let file = NpyFile::new(file)?;
            let (&[_, dim], Order::C) = (file.shape(), file.order()) else {
                return Err("the array must have two dimensions, in C order".into());
            };
            let dim = usize::try_from(dim)?;
            let element = file.dtype().descr();
            match element.trim_matches('\'') {
                "<f2" => Ok(rows(file.data::<half::f16>()?, dim, half::f16::to_f32)),
                "<f4" => Ok(rows(file.data::<f32>()?, dim, |v| v)),
                "<f8" => Ok(rows(file.data::<f64>()?, dim, |v| v as f32)),
                _ => Err(format!("the elements are {element}, not float16, float32 or float64").into()),
            }
        }
        Some("parquet") => {
            let (vectors, ids) = match columns.map(|columns| columns.split_once(':')) {
                None => (None, None),
                Some(None) => (columns, None),
                Some(Some((vectors, ids))) => (Some(vectors), Some(ids)),
            };
            Ok(Box::new(Parquet::open(file.into_inner(), vectors, ids)?.flatten_rows()))
        }
        _ => Err("the file must be a .npy, a .fvecs or a .parquet".into()),
    }
}

/// Vectors with their positions as rowids.
fn numbered(vectors: impl Iterator<Item = io::Result<Vec<f32>>> + 'static) -> Rows {
    Box::new((0..).zip(vectors).map(|(number, vector)| Ok((number, vector?))))
}

fn rows<T: Deserialize + 'static>(
    mut numbers: npyz::NpyReader<T, BufReader<File>>,
    dim: usize,
    to_f32: fn(T) -> f32,
) -> Rows {
    numbered(std::iter::from_fn(move || {
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

/// A column of lists in a Parquet file, and perhaps a column of rowids beside it.
struct Parquet {
    file: SerializedFileReader<File>,
    vectors: (usize, ColumnDescPtr),
    ids: Option<(usize, ColumnDescPtr)>,
    /// The row group to open next.
    group: usize,
    open: Option<(ColumnReader, Option<ColumnReader>)>,
    /// Rows read so far.
    read: i64,
}

/// Rows of a Parquet file that are read at a time.
const ROWS: usize = 1024;

impl Parquet {
    /// `vectors` names a column, or is none where only one has lists of floating-point numbers.
    fn open(file: File, vectors: Option<&str>, ids: Option<&str>) -> Result<Self> {
        let file = SerializedFileReader::new(file)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let lists = columns(&schema, is_vector);
        let vectors = match (vectors, lists.as_slice()) {
            (None, [only]) => only.clone(),
            (Some(name), _) => pick(&lists, name, "lists of float16, float32 or float64")?,
            (None, []) => return Err("no column holds lists of float16, float32 or float64".into()),
            (None, _) => {
                return Err(format!("which column? FILE.parquet:COLUMN, of {}", names(&lists)).into());
            }
        };
        let ids = ids.map(|name| pick(&columns(&schema, is_id), name, "signed integers")).transpose()?;
        Ok(Self { file, vectors, ids, group: 0, open: None, read: 0 })
    }

    fn flatten_rows(mut self) -> impl Iterator<Item = Result<(i64, Vec<f32>)>> {
        let mut ready = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if ready.len() == 0 {
                match self.next_rows() {
                    Ok(rows) => ready = rows.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
            ready.next().map(Ok)
        })
    }

    /// The next rows; `None` at the end of the file.
    fn next_rows(&mut self) -> Result<Vec<(i64, Vec<f32>)>> {
        loop {
            let Some((vectors, ids)) = &mut self.open else {
                if self.group == self.file.num_row_groups() {
                    return Ok(Vec::new());
                }
                let group = self.file.get_row_group(self.group)?;
                let ids = self.ids.as_ref().map(|(at, _)| group.get_column_reader(*at)).transpose()?;
                self.open = Some((group.get_column_reader(self.vectors.0)?, ids));
                self.group += 1;
                continue;
            };
            let found = match vectors {
                ColumnReader::FloatColumnReader(reader) => lists(reader, &self.vectors.1, |v| *v)?,
                ColumnReader::DoubleColumnReader(reader) => lists(reader, &self.vectors.1, |v| *v as f32)?,
                ColumnReader::FixedLenByteArrayColumnReader(reader) => lists(reader, &self.vectors.1, |v| {
                    v.as_bytes().first_chunk().map_or(f32::NAN, |b| half::f16::from_le_bytes(*b).to_f32())
                })?,
                _ => unreachable!("the column was picked by its type"),
            };
            let ids = match (ids, &self.ids) {
                (Some(ColumnReader::Int32ColumnReader(reader)), Some((_, column))) => {
                    numbers(reader, column, |v| i64::from(*v))?
                }
                (Some(ColumnReader::Int64ColumnReader(reader)), Some((_, column))) => {
                    numbers(reader, column, |v| *v)?
                }
                _ => (self.read..).take(found.len()).map(Some).collect(),
            };
            if found.is_empty() {
                self.open = None;
                continue;
            }
            if ids.len() != found.len() {
                return Err("the columns of the file differ in length".into());
            }
            let missing = |at: usize, column: &ColumnDescPtr, what: &str| -> Box<dyn std::error::Error> {
                format!("row {} of the column {} {what}", self.read + at as i64, name(column)).into()
            };
            let mut rows = Vec::new();
            for (at, (id, vector)) in ids.into_iter().zip(found).enumerate() {
                let vector = vector
                    .ok_or_else(|| missing(at, &self.vectors.1, "is no vector: empty, or with a null"))?;
                let id = id.ok_or_else(|| missing(at, &self.ids.as_ref().unwrap().1, "is null"))?;
                rows.push((id, vector));
            }
            self.read += rows.len() as i64;
            return Ok(rows);
        }
    }
}

/// The usable columns of a schema, with their positions among the leaves.
fn columns(schema: &SchemaDescPtr, good: fn(&ColumnDescPtr) -> bool) -> Vec<(usize, ColumnDescPtr)> {
    let leaves = || schema.columns().iter();
    // A leaf of a structure or a map is not a column.
    let is_whole = |leaf: &ColumnDescPtr| leaves().filter(|other| name(other) == name(leaf)).count() == 1;
    leaves().cloned().enumerate().filter(|(_, leaf)| good(leaf) && is_whole(leaf)).collect()
}

fn name(leaf: &ColumnDescPtr) -> &str {
    &leaf.path().parts()[0]
}

fn names(columns: &[(usize, ColumnDescPtr)]) -> String {
    columns.iter().map(|(_, column)| name(column)).collect::<Vec<_>>().join(", ")
}

fn is_vector(leaf: &ColumnDescPtr) -> bool {
    let is_half = leaf.logical_type_ref() == Some(&LogicalType::Float16);
    leaf.max_rep_level() == 1 && (is_half || matches!(leaf.physical_type(), Type::FLOAT | Type::DOUBLE))
}

fn is_id(leaf: &ColumnDescPtr) -> bool {
    let is_signed = match leaf.logical_type_ref() {
        None => true,
        Some(LogicalType::Integer(integer)) => integer.is_signed,
        Some(_) => false,
    };
    leaf.max_rep_level() == 0 && is_signed && matches!(leaf.physical_type(), Type::INT32 | Type::INT64)
}

fn pick(columns: &[(usize, ColumnDescPtr)], wanted: &str, what: &str) -> Result<(usize, ColumnDescPtr)> {
    let found = columns.iter().find(|(_, column)| name(column) == wanted);
    found.cloned().ok_or_else(|| match names(columns).as_str() {
        "" => format!("{wanted} is no column of {what}, there is none").into(),
        names => format!("{wanted} is no column of {what}, of which there are: {names}").into(),
    })
}

/// The next lists of a column; `None` for one that is null, empty or contains a null.
fn lists<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    column: &ColumnDescPtr,
    to_f32: impl Fn(&T::T) -> f32,
) -> Result<Vec<Option<Vec<f32>>>> {
    let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
    reader.read_records(ROWS, Some(&mut defined), Some(&mut repeated), &mut values)?;
    let mut values = values.iter();
    let mut rows: Vec<Option<Vec<f32>>> = Vec::new();
    for (defined, repeated) in defined.into_iter().zip(repeated) {
        if repeated == 0 {
            rows.push(Some(Vec::new()));
        }
        let value = if defined == column.max_def_level() { values.next() } else { None };
        match (rows.last_mut(), value) {
            (Some(Some(row)), Some(value)) => row.push(to_f32(value)),
            (Some(row), None) => *row = None,
            _ => {}
        }
    }
    Ok(rows)
}

/// The next numbers of a column; `None` for a null.
fn numbers<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    column: &ColumnDescPtr,
    to_i64: impl Fn(&T::T) -> i64,
) -> Result<Vec<Option<i64>>> {
    let (mut defined, mut values) = (Vec::new(), Vec::new());
    let (rows, ..) = reader.read_records(ROWS, Some(&mut defined), None, &mut values)?;
    let mut values = values.iter();
    let is_there = |at: usize| defined.get(at).is_none_or(|defined| *defined == column.max_def_level());
    Ok((0..rows).map(|at| if is_there(at) { values.next().map(&to_i64) } else { None }).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use npyz::WriterBuilder;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{
        DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
    };
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use sqlite_ivf::Search;

    fn imported(file: &str, bytes: &[u8]) -> Result<(Connection, usize)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(file.split_inclusive(".parquet").next().unwrap());
        std::fs::write(&path, bytes)?;
        let db = Connection::open_in_memory()?;
        sqlite_ivf::register(&db)?;
        let columns = file.split_once(".parquet").map_or("", |(_, columns)| columns);
        let rows = import(&db, &format!("{}{columns}", path.display()), "t", Metric::L2)?;
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

    /// A Parquet file of that schema: of each column its values, their definition and their repetition levels, in each of so many
    /// row groups.
    fn parquet(columns: &str, leaves: &[(Values<'_>, &[i16], &[i16])], groups: usize) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(&format!("message m {{ {columns} }}")).unwrap());
        let compression =
            if groups > 1 { Compression::ZSTD(ZstdLevel::default()) } else { Compression::SNAPPY };
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        for _ in 0..groups {
            let mut group = writer.next_row_group().unwrap();
            for (values, defined, repeated) in leaves {
                let mut column = group.next_column().unwrap().unwrap();
                // A column without levels takes none.
                let levels = [defined, repeated]
                    .map(|levels| Some(*levels).filter(|levels: &&[i16]| !levels.is_empty()));
                match values {
                    Values::F32(v) => column.typed::<FloatType>().write_batch(v, levels[0], levels[1]),
                    Values::F64(v) => column.typed::<DoubleType>().write_batch(v, levels[0], levels[1]),
                    Values::F16(v) => {
                        let v: Vec<FixedLenByteArray> =
                            v.iter().map(|v| v.to_le_bytes().to_vec().into()).collect();
                        column.typed::<FixedLenByteArrayType>().write_batch(&v, levels[0], levels[1])
                    }
                    Values::I32(v) => column.typed::<Int32Type>().write_batch(v, levels[0], None),
                    Values::I64(v) => column.typed::<Int64Type>().write_batch(v, levels[0], None),
                }
                .unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    enum Values<'a> {
        F32(&'a [f32]),
        F64(&'a [f64]),
        F16(&'a [half::f16]),
        I32(&'a [i32]),
        I64(&'a [i64]),
    }

    const V: &str = "optional group v (LIST) { repeated group list { optional float element; } }";

    #[test]
    fn a_column_of_lists_of_a_parquet_file_gives_its_rows() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.5_f64];
        let (floats, halves) = (numbers.map(|v| v as f32), numbers.map(half::f16::from_f64));
        let (all, starts) = ([3; 6], [0, 1, 0, 1, 0, 1]);
        let required = "required group v (LIST) { repeated group list { required double element; } }";
        let half = V.replace("float element", "fixed_len_byte_array(2) element (FLOAT16)");
        let others = format!("required int64 a; {V} optional int32 id; required float c;");
        let others_leaves: [(Values<'_>, &[i16], &[i16]); 4] = [
            (Values::I64(&[10, 20, 30]), &[], &[]),
            (Values::F32(&floats), &all, &starts),
            (Values::I32(&[7, -8, 9]), &[1; 3], &[]),
            (Values::F32(&[0.0; 3]), &[], &[]),
        ];
        for (file, bytes, rowid) in [
            ("a.parquet", parquet(V, &[(Values::F32(&floats), &all, &starts)], 1), 2),
            ("b.parquet:v", parquet(required, &[(Values::F64(&numbers), &[1; 6], &starts)], 1), 2),
            ("c.parquet", parquet(&half, &[(Values::F16(&halves), &all, &starts)], 1), 2),
            ("d.parquet", parquet("repeated float v;", &[(Values::F32(&floats), &[1; 6], &starts)], 1), 2),
            ("e.parquet:v:id", parquet(&others, &others_leaves, 1), 9),
            ("e.parquet:v:a", parquet(&others, &others_leaves, 1), 30),
        ] {
            let (db, rows) = imported(file, &bytes).unwrap();
            assert_eq!(rows, 3, "{file}");
            let hits = Table::open(&db, "t").unwrap().search(&[5.0, 6.5], &Search::new(1)).unwrap();
            assert_eq!((hits[0].rowid, hits[0].distance), (rowid, 0.0), "{file}");
        }
    }

    #[test]
    fn rows_of_a_parquet_file_go_on_over_row_groups_and_reads() {
        let rows = ROWS + 100;
        let floats: Vec<f32> = (0..2 * rows).map(|v| v as f32).collect();
        let starts: Vec<i16> = (0..2 * rows).map(|at| (at % 2) as i16).collect();
        let bytes = parquet(V, &[(Values::F32(&floats), &vec![3; 2 * rows], &starts)], 3);
        let (db, count) = imported("a.parquet", &bytes).unwrap();
        assert_eq!(count, 3 * rows);
        let last: i64 = db.query_row("SELECT max(rowid) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(last, 3 * rows as i64 - 1);
    }

    #[test]
    fn a_parquet_file_without_the_column_or_with_a_null_says_so() {
        let refused = |file: &str, bytes: &[u8]| imported(file, bytes).unwrap_err().to_string();
        let (two, all) = ([1.0, 2.0], [3; 2]);
        let both = format!("{V} {} required int64 id (INTEGER(64,false));", V.replace(" v ", " w "));
        let leaves: [(Values<'_>, &[i16], &[i16]); 3] = [
            (Values::F32(&two), &all, &[0, 1]),
            (Values::F32(&two), &all, &[0, 1]),
            (Values::I64(&[1]), &[], &[]),
        ];
        let bytes = parquet(&both, &leaves, 1);
        assert_eq!(refused("a.parquet", &bytes), "which column? FILE.parquet:COLUMN, of v, w");
        assert_eq!(
            refused("a.parquet:id", &bytes),
            "id is no column of lists of float16, float32 or float64, of which there are: v, w"
        );
        assert_eq!(refused("a.parquet:v:id", &bytes), "id is no column of signed integers, there is none");
        let none = parquet("required float c;", &[(Values::F32(&[1.0]), &[], &[])], 1);
        assert_eq!(refused("a.parquet", &none), "no column holds lists of float16, float32 or float64");
        // A null in a list, an empty list, no list.
        for (values, defined, repeated) in [
            (&two[..], [3, 3, 2], [0, 1, 0]),
            (&two[..], [3, 3, 1], [0, 1, 0]),
            (&two[..], [3, 3, 0], [0, 1, 0]),
        ] {
            let bytes = parquet(V, &[(Values::F32(values), &defined, &repeated)], 1);
            let expected = "row 1 of the column v is no vector: empty, or with a null";
            assert_eq!(refused("a.parquet", &bytes), expected);
        }
        let ids = format!("{V} optional int64 id;");
        let leaves: [(Values<'_>, &[i16], &[i16]); 2] =
            [(Values::F32(&two), &all, &[0, 1]), (Values::I64(&[]), &[0], &[])];
        assert_eq!(refused("a.parquet:v:id", &parquet(&ids, &leaves, 1)), "row 0 of the column id is null");
        assert!(imported("a.parquet", b"PAR1 and no more").is_err());
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
