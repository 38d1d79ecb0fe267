//! `ivf_lists(t)`, `ivf_partitions(t)` and `ivf_centroids(t)`.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::base::alloc::try_collect;
use crate::index::{CoarseQuantizer, Datum, SegmentId, Snapshot};
use crate::sqlite::{Db, Result, Value};
use crate::storage::{Partition, Sql};
use crate::vtab::table::registry::Connection;
use crate::vtab::table_function::{Cell, Column, TableFunction};
use crate::vtab::values::vector::to_json;

/// The lists of a table, one row each. Reads the heads of the segments and the lengths of the blobs, not the
/// blobs.
pub struct IvfLists;

pub struct List {
    list_no: usize,
    snapshot: Arc<Snapshot>,
    bytes: i64,
}

impl List {
    fn sum(&self, of: impl Fn(&crate::index::SegmentHead) -> u32) -> Cell {
        let segments = &self.snapshot.segments()[self.snapshot.list(self.list_no)];
        Cell::I64(segments.iter().map(|segment| i64::from(of(&segment.head))).sum())
    }

    fn radius(&self) -> Cell {
        let segments = &self.snapshot.segments()[self.snapshot.list(self.list_no)];
        match segments.iter().map(|segment| segment.head.radius).reduce(f32::max) {
            Some(radius) => Cell::F64(radius.into()),
            None => Cell::Null,
        }
    }
}

impl TableFunction for IvfLists {
    type Environment = Rc<Connection>;
    type Row = List;

    const NAME: &'static str = "ivf_lists";
    const COLUMNS: &'static [Column<List>] = &[
        ("list_no", |list| Cell::I64(list.list_no as i64)),
        ("rows", |list| list.sum(|head| head.live())),
        ("deleted", |list| list.sum(|head| head.dead)),
        ("segments", |list| list.sum(|_| 1)),
        ("bytes", |list| Cell::I64(list.bytes)),
        ("radius", List::radius),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t"];
    const REQUIRED: usize = 1;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<List>> {
        let table = super::table(db, connection, Self::NAME, arguments)?;
        let (state, snapshot) = table.current()?;
        let list = |list_no| List { list_no, snapshot: Arc::clone(&snapshot), bytes: 0 };
        let mut lists = try_collect((0..snapshot.nlist()).map(list))?;
        let tables = table.tables();
        let (first, last) = state.segments();
        let mut statement = tables.statement(Sql::SegmentsBytes)?;
        let mut rows = statement.query(&[first.into(), last.into()])?;
        while rows.step()? {
            if let Some(list) = lists.get_mut(SegmentId::from_raw(rows.i64(0)).list_no() as usize) {
                list.bytes = list.bytes.saturating_add(rows.i64(1));
            }
        }
        Ok(lists)
    }
}

/// The partitions of a table; no rows if it has none. Reads `t_partitions` and the heads of the segments.
pub struct IvfPartitions;

pub struct OfPartition {
    partition: Partition,
    lists: usize,
}

/// A value of a partition's key in JSON.
struct OfKey<'a>(Datum<'a>);

impl Serialize for OfKey<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Datum::Null => json.serialize_unit(),
            Datum::Integer(value) => json.serialize_i64(value),
            Datum::Float(value) => json.serialize_f64(value),
            Datum::Text(value) => json.serialize_str(value),
        }
    }
}

impl TableFunction for IvfPartitions {
    type Environment = Rc<Connection>;
    type Row = OfPartition;

    const NAME: &'static str = "ivf_partitions";
    const COLUMNS: &'static [Column<OfPartition>] = &[
        ("partition", |of| Cell::I64(of.partition.partition.into())),
        ("key", |of| {
            let values: Vec<_> = of.partition.values().into_iter().map(OfKey).collect();
            to_json(&values).map_or(Cell::Refused, Cell::Text)
        }),
        ("rows", |of| Cell::I64(of.partition.rows as i64)),
        ("lists", |of| Cell::I64(of.lists as i64)),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t"];
    const REQUIRED: usize = 1;

    fn rows(
        db: Db,
        connection: &Rc<Connection>,
        arguments: &[Option<Value<'_>>],
    ) -> Result<Vec<OfPartition>> {
        let table = super::table(db, connection, Self::NAME, arguments)?;
        let (_, snapshot) = table.current()?;
        let tables = table.tables();
        if !tables.is_partitioned() {
            return Ok(Vec::new());
        }
        let lists = |partition| snapshot.coarse().map_or(0, |coarse| coarse.lists_of(partition).len());
        let all = tables.all_partitions()?.into_iter();
        Ok(try_collect(all.map(|partition| OfPartition { lists: lists(partition.partition), partition }))?)
    }
}

/// The centroids of a table; no rows before training. Reads `t_centroids`, unless it is resident.
pub struct IvfCentroids;

impl TableFunction for IvfCentroids {
    type Environment = Rc<Connection>;
    type Row = (usize, Arc<CoarseQuantizer>);

    const NAME: &'static str = "ivf_centroids";
    const COLUMNS: &'static [Column<Self::Row>] = &[
        ("list_no", |(list_no, _)| Cell::I64(*list_no as i64)),
        ("centroid", |(list_no, coarse)| Cell::floats(coarse.centroid(*list_no))),
    ];
    const ARGUMENTS: &'static [&'static str] = &["t"];
    const REQUIRED: usize = 1;

    fn rows(db: Db, connection: &Rc<Connection>, arguments: &[Option<Value<'_>>]) -> Result<Vec<Self::Row>> {
        let (_, snapshot) = super::table(db, connection, Self::NAME, arguments)?.current()?;
        let Some(coarse) = snapshot.coarse() else { return Ok(Vec::new()) };
        Ok(try_collect((0..coarse.nlist()).map(|list_no| (list_no, Arc::clone(coarse))))?)
    }
}
