//! A virtual table that uses every callback, keeps its rows in a shadow table, and fails where SQL tells it
//! to.
//!
//! This is one file because all callbacks report to one script, which also plans their faults.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::sqlite::{
    Aggregate, BestIndex, Conflict, Context, Db, Error, FunctionFlags, IndexInfo, Kind, Op, OrderBy, Param,
    Result, TableKind, Ticker, Update, VTab, VTabArgs, VTabCursor, Value, ffi, register_aggregate,
    register_module, register_scalar,
};

thread_local! {
    /// The number of live objects: tables, cursors, aggregate states, scripts.
    pub static LIVE: Cell<i64> = const { Cell::new(0) };
    /// Makes the callback that has no object panic.
    pub static SHADOW_NAME_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Counts an object while it lives.
pub struct Counted(());

impl Default for Counted {
    fn default() -> Counted {
        LIVE.set(LIVE.get() + 1);
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

/// The calls so far, and the fault to come.
#[derive(Default)]
pub struct Script {
    calls: RefCell<Vec<String>>,
    fault: RefCell<Option<(String, i64, String)>>,
    _live: Counted,
}

impl Script {
    /// Records a callback, and fails in it if the script says so. Code -1 panics.
    fn at(&self, callback: &str, detail: &str) -> Result<()> {
        self.calls.borrow_mut().push(format!("{callback}{detail}"));
        let fault = self.fault.borrow().clone();
        match fault {
            Some((name, -1, message)) if name == callback => panic!("{message}"),
            Some((name, code, message)) if name == callback => Err(Error::new(code as i32, message)),
            _ => Ok(()),
        }
    }
}

pub struct Demo {
    db: Db,
    schema: String,
    name: RefCell<String>,
    script: Rc<Script>,
    _live: Counted,
}

impl Demo {
    fn data(&self) -> String {
        format!("\"{}\".\"{}_data\"", self.schema, self.name.borrow())
    }
}

impl VTab for Demo {
    type Aux = Rc<Script>;
    type Cursor = Scan;
    const KIND: TableKind = TableKind::Writable;
    const INNOCUOUS: bool = true;
    const CONSTRAINT_SUPPORT: bool = true;

    fn create(db: Db, aux: &Rc<Script>, args: &VTabArgs<'_>) -> Result<(String, Demo)> {
        aux.at("create", &format!(" {} {}", args.module, args.arguments.join("|")))?;
        db.execute(&format!(
            "CREATE TABLE \"{}\".\"{}_data\"(id INTEGER PRIMARY KEY, v); -- and\n ; ",
            args.schema, args.table
        ))?;
        Self::connect(db, aux, args)
    }

    fn connect(db: Db, aux: &Rc<Script>, args: &VTabArgs<'_>) -> Result<(String, Demo)> {
        aux.at("connect", "")?;
        let table = Demo {
            db,
            schema: args.schema.to_owned(),
            name: RefCell::new(args.table.to_owned()),
            script: aux.clone(),
            _live: Counted::default(),
        };
        Ok(("CREATE TABLE x(v, big HIDDEN)".to_owned(), table))
    }

    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        self.script.at("best_index", "")?;
        let mut plan = String::new();
        for constraint in info.constraints() {
            let argument = plan.len() as i32 + 1;
            let letter = match constraint {
                c if c.op == Op::Match && !c.usable => return Ok(BestIndex::Unusable),
                c if !c.usable => continue,
                c if c.column == -1 && c.op == Op::Eq && info.vtab_in(c.index, None) => {
                    info.vtab_in(c.index, Some(true));
                    'i'
                }
                c if c.column == -1 && c.op == Op::Eq => 'e',
                c if c.column == 0 && c.op == Op::Eq => 'v',
                c if c.column == 0 && c.op == Op::Match => 'm',
                _ => continue,
            };
            assert!(info.collation(constraint.index).is_some());
            if letter == 'm' {
                let known = info.rhs(constraint.index).map(|value| value.kind());
                self.script.calls.borrow_mut().push(format!("rhs {known:?}"));
            }
            plan.push(letter);
            info.set_argv(constraint.index, argument, true);
        }
        info.set_estimated_cost(if plan.is_empty() { 1e6 } else { 10.0 });
        info.set_estimated_rows(if plan.contains('e') { 1 } else { 1000 });
        info.set_unique(plan.contains('e'));
        if info.order_by().eq([OrderBy { column: -1, desc: false }]) {
            info.set_order_by_consumed(true);
        }
        info.set_idx_num(7);
        info.set_idx_str("overwritten %s%n")?;
        info.set_idx_str(&plan)?;
        Ok(BestIndex::Ok)
    }

    fn open(&self) -> Result<Scan> {
        self.script.at("open", "")?;
        Ok(Scan { rows: Vec::new(), at: 0, script: self.script.clone(), _live: Counted::default() })
    }

    fn destroy(&self) -> Result<()> {
        self.script.at("destroy", "")?;
        self.db.execute(&format!("DROP TABLE {}", self.data()))
    }

    fn update(&self, update: Update<'_>) -> Result<i64> {
        let conflict = self.db.vtab_on_conflict();
        self.script.at("update", &format!(" {conflict:?}"))?;
        let data = self.data();
        match update {
            Update::Delete(rowid) => {
                self.db.run(&format!("DELETE FROM {data} WHERE id = ?1"), &[rowid.i64().into()])?;
                Ok(0)
            }
            Update::Insert { rowid, columns } => {
                let id = rowid.map_or(Param::Null, |rowid| Param::I64(rowid.i64()));
                let or = if conflict == Conflict::Replace { "OR REPLACE" } else { "" };
                let mut insert = self.db.prepare(&format!("INSERT {or} INTO {data} VALUES (?1, ?2)"))?;
                insert.insert(&[id, columns[0].param()?])
            }
            Update::Update { old, new, columns } => {
                if columns[1].nochange() && columns[0].nochange() {
                    self.script.calls.borrow_mut().push("nochange".to_owned());
                }
                let sql = format!("UPDATE {data} SET id = ?2, v = ?3 WHERE id = ?1");
                self.db.run(&sql, &[old.i64().into(), new.i64().into(), columns[0].param()?])?;
                Ok(0)
            }
        }
    }

    fn begin(&self) -> Result<()> {
        self.script.at("begin", "")
    }

    fn sync(&self) -> Result<()> {
        self.script.at("sync", "")
    }

    fn commit(&self) -> Result<()> {
        self.script.at("commit", "")
    }

    fn rollback(&self) -> Result<()> {
        self.script.at("rollback", "")
    }

    fn savepoint(&self, level: i32) -> Result<()> {
        self.script.at("savepoint", &format!(" {level}"))
    }

    fn release(&self, level: i32) -> Result<()> {
        self.script.at("release", &format!(" {level}"))
    }

    fn rollback_to(&self, level: i32) -> Result<()> {
        self.script.at("rollback_to", &format!(" {level}"))
    }

    fn rename(&self, new: &str) -> Result<()> {
        self.script.at("rename", &format!(" {new}"))?;
        self.db.execute(&format!("ALTER TABLE {} RENAME TO \"{new}_data\"", self.data()))?;
        self.name.replace(new.to_owned());
        Ok(())
    }

    fn integrity(&self, schema: &str, table: &str, flags: i32) -> Result<Option<String>> {
        self.script.at("integrity", "")?;
        let bad = self.db.query_i64(&format!("SELECT id FROM {} WHERE id = 666", self.data()), &[])?;
        Ok(bad.map(|id| format!("row {id} of {schema}.{table} is evil, flags {flags}")))
    }

    fn shadow_name(suffix: &str) -> bool {
        assert!(!SHADOW_NAME_PANICS.get(), "in shadow_name");
        suffix == "data"
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let noted = self.script.at("drop", "");
        drop(noted);
    }
}

#[derive(Clone)]
enum Cell1 {
    Null,
    I64(i64),
    F64(f64),
    Text(String),
    Blob(Vec<u8>),
}

pub struct Scan {
    rows: Vec<(i64, Cell1)>,
    at: usize,
    script: Rc<Script>,
    _live: Counted,
}

impl VTabCursor<Demo> for Scan {
    fn filter(&mut self, vtab: &Demo, idx_num: i32, idx_str: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        self.script.at("filter", &format!(" {idx_num} {idx_str:?}"))?;
        let mut conditions = vec!["1".to_owned()];
        let mut params = Vec::new();
        for (letter, value) in idx_str.unwrap_or("").chars().zip(args) {
            match letter {
                'i' => {
                    let mut list = value.as_in_list()?.ok_or_else(|| Error::internal("not a list"))?;
                    let mut ids = Vec::new();
                    while let Some(id) = list.next_value()? {
                        ids.push(id.i64().to_string());
                    }
                    conditions.push(format!("id IN ({})", ids.join(",")));
                }
                'e' => {
                    assert!(value.as_in_list()?.is_none(), "a scalar is no list");
                    params.push(value.param()?);
                    conditions.push(format!("id = ?{}", params.len()));
                }
                'v' => {
                    params.push(value.param()?);
                    conditions.push(format!("v = ?{}", params.len()));
                }
                _ => {}
            }
        }
        let sql = format!("SELECT id, v FROM {} WHERE {} ORDER BY id", vtab.data(), conditions.join(" AND "));
        let mut statement = vtab.db.prepare(&sql)?;
        let mut rows = statement.query(&params)?;
        (self.rows, self.at) = (Vec::new(), 0);
        while rows.step()? {
            let cell = match rows.kind(1) {
                Kind::Null => Cell1::Null,
                Kind::Integer => Cell1::I64(rows.i64(1)),
                Kind::Real => Cell1::F64(rows.f64(1)),
                Kind::Text => Cell1::Text(rows.text(1)?.to_owned()),
                Kind::Blob => Cell1::Blob(rows.blob(1)?.to_vec()),
            };
            self.rows.push((rows.i64(0), cell));
        }
        Ok(())
    }

    fn next(&mut self, _: &Demo) -> Result<()> {
        self.at += 1;
        self.script.at("next", "")
    }

    fn eof(&self) -> bool {
        let noted = self.script.at("eof", "");
        drop(noted);
        self.at >= self.rows.len()
    }

    fn column(&self, _: &Demo, context: &Context<'_>, column: i32) -> Result<()> {
        self.script.at("column", "")?;
        if context.no_change() {
            return Ok(());
        }
        match (column, &self.rows[self.at].1) {
            (0, Cell1::I64(value)) => context.i64(*value),
            (0, Cell1::F64(value)) => context.f64(*value),
            (0, Cell1::Text(value)) => context.text(value),
            (0, Cell1::Blob(value)) => context.blob(value),
            (0, Cell1::Null) => context.null(),
            _ => context.zeroblob(100)?,
        }
        Ok(())
    }

    fn rowid(&self, _: &Demo) -> Result<i64> {
        self.script.at("rowid", "")?;
        Ok(self.rows[self.at].0)
    }
}

/// A table-valued function: the numbers below `n`.
pub struct Upto;

impl VTab for Upto {
    type Aux = ();
    type Cursor = Numbers;
    const KIND: TableKind = TableKind::EponymousOnly;
    const INNOCUOUS: bool = true;

    fn connect(_: Db, (): &(), _: &VTabArgs<'_>) -> Result<(String, Upto)> {
        Ok(("CREATE TABLE x(value INTEGER, n INTEGER HIDDEN)".to_owned(), Upto))
    }

    fn best_index(&self, info: &mut IndexInfo<'_>) -> Result<BestIndex> {
        let n = info.constraints().find(|constraint| constraint.column == 1 && constraint.op == Op::Eq);
        match n {
            Some(n) if n.usable => info.set_argv(n.index, 1, true),
            Some(_) => return Ok(BestIndex::Unusable),
            None => return Err(Error::generic("upto(n) wants its argument, 100%s of the time %n")),
        }
        Ok(BestIndex::Ok)
    }

    fn open(&self) -> Result<Numbers> {
        Ok(Numbers { at: 0, end: 0 })
    }
}

pub struct Numbers {
    at: i64,
    end: i64,
}

impl VTabCursor<Upto> for Numbers {
    fn filter(&mut self, _: &Upto, _: i32, _: Option<&str>, args: &[Value<'_>]) -> Result<()> {
        *self = Numbers { at: 0, end: args[0].i64() };
        Ok(())
    }

    fn next(&mut self, _: &Upto) -> Result<()> {
        self.at += 1;
        Ok(())
    }

    fn eof(&self) -> bool {
        self.at >= self.end
    }

    fn column(&self, _: &Upto, context: &Context<'_>, column: i32) -> Result<()> {
        context.i64(if column == 0 { self.at } else { self.end });
        Ok(())
    }

    fn rowid(&self, _: &Upto) -> Result<i64> {
        Ok(self.at)
    }
}

/// Joins texts; fails or panics on request.
#[derive(Default)]
struct Join {
    text: String,
    _live: Counted,
}

impl Aggregate for Join {
    fn step(&mut self, args: &[Value<'_>]) -> Result<()> {
        match args[0].text()? {
            "panic" => panic!("in step"),
            "fail" => Err(Error::new(ffi::SQLITE_CONSTRAINT_DATATYPE, "in step %s%n")),
            text => {
                self.text.push_str(text);
                Ok(())
            }
        }
    }

    fn finish(self, context: &Context<'_>) -> Result<()> {
        assert!(self.text != "boom", "in finish");
        context.text(&self.text);
        Ok(())
    }
}

/// Registers the table, the table-valued function and the functions.
pub fn register(db: Db) -> Result<()> {
    let script = Rc::new(Script::default());
    register_module::<Demo>(db, "demo", script.clone())?;
    register_module::<Upto>(db, "upto", ())?;
    let faults = script.clone();
    register_scalar(db, "demo_fail", 3, FunctionFlags::default(), move |_, args| {
        let fault = (args[0].text()?.to_owned(), args[1].i64(), args[2].text()?.to_owned());
        faults.fault.replace(Some(fault));
        Ok(())
    })?;
    register_scalar(db, "demo_calls", 0, FunctionFlags::default(), move |context, _| {
        context.text(&script.calls.take().join(","));
        Ok(())
    })?;
    register_scalar(db, "demo_error", 2, FunctionFlags::PURE, |_, args| {
        if args[0].i64() < 0 {
            panic!("{}", args[1].text()?);
        }
        Err(Error::new(args[0].i64() as i32, args[1].text()?))
    })?;
    register_scalar(db, "demo_bytes", -1, FunctionFlags::PURE, |context, args| {
        context.text(
            &args
                .iter()
                .map(|arg| arg.blob().map(|blob| format!("{}:{blob:?}", arg.kind().name())))
                .collect::<Result<Vec<_>>>()?
                .join(" "),
        );
        Ok(())
    })?;
    register_scalar(db, "demo_tag", 1, FunctionFlags::PURE_TYPED, |context, args| {
        context.value(&args[0]);
        context.subtype(args[0].subtype() + 7);
        Ok(())
    })?;
    register_scalar(db, "demo_subtype", 1, FunctionFlags::PURE_TYPED, |context, args| {
        context.i64(i64::from(args[0].subtype()));
        Ok(())
    })?;
    register_scalar(db, "demo_fill", 1, FunctionFlags::PURE, |context, args| {
        context.blob_with(args[0].i64() as usize, |bytes| {
            bytes.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
            if bytes.len() == 13 { Err(Error::generic("13 is bad")) } else { Ok(()) }
        })
    })?;
    // Native work of this many milliseconds, with a tick per millisecond.
    register_scalar(db, "demo_work", 1, FunctionFlags::default(), |context, args| {
        let mut ticker = Ticker::new(context.db());
        for done in 0..args[0].i64() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            ticker.tick()?;
            context.i64(done);
        }
        Ok(())
    })?;
    // Ticks without work, to measure the nanoseconds per tick.
    register_scalar(db, "demo_ticks", 1, FunctionFlags::default(), |context, args| {
        let mut ticker = Ticker::new(context.db());
        let start = std::time::Instant::now();
        for _ in 0..args[0].i64() {
            ticker.tick()?;
        }
        context.f64(start.elapsed().as_nanos() as f64 / args[0].f64());
        Ok(())
    })?;
    register_aggregate::<Join>(db, "demo_join", 1, FunctionFlags::PURE)
}
