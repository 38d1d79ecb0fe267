//! The forms of queries: plain searches, searches in joins and subqueries, and queries without a search.

use super::conditions::{Condition, Place, across, alone};
use super::queries::{Asked, How, Query, Search};
use super::schema::Schema;
use super::values::{Vector, chance, perhaps, pick};
use crate::common::Numbers;

/// What a query gives: the rowid, the distance, and every column or some.
fn shown(numbers: &mut Numbers, schema: &Schema, search: &Search) -> String {
    let mut shown = vec![format!("{}.rowid", search.name)];
    if !matches!(search.asked, Asked::Nothing) {
        shown.push(format!("{}.distance", search.name));
    }
    for name in schema.names() {
        if chance(numbers, 40) {
            let column = format!("{}.{name}", search.name);
            let blob = schema.spaces.iter().any(|space| space.name == name);
            shown.push(if blob { format!("hex({column})") } else { column });
        }
    }
    shown.join(", ")
}

fn some(numbers: &mut Numbers, schema: &Schema, search: &mut Search) {
    for _ in 0..pick(numbers, &[0, 1, 1, 2, 3]) {
        let condition = alone(numbers, schema);
        let unsure = |search: &Search| search.conditions.iter().any(|c| c.place == Place::Either);
        if !(condition.place == Place::Either && unsure(search)) {
            search.conditions.push(condition);
        }
    }
}

fn given() -> Asked {
    Asked::Value(Vector { index: String::new(), plain: String::new() })
}

/// A query of any form.
pub fn query(numbers: &mut Numbers, schema: &Schema) -> Query {
    let set = |form: String, searches: Vec<Search>| Query { form, searches, how: How::Set, limit: None };
    match numbers.below(20) {
        0..3 => scan(numbers, schema),
        3 | 4 => single(numbers, schema),
        5 => batch(numbers, schema),
        6..9 => joined(numbers, schema),
        9 | 10 => with_queries(numbers, schema),
        11..13 => correlated(numbers, schema),
        13 | 14 => nested(numbers, schema),
        15 => {
            let mut a = Search::new(numbers, schema, "a", given());
            let mut b = Search::new(numbers, schema, "b", given());
            some(numbers, schema, &mut a);
            some(numbers, schema, &mut b);
            let all = pick(numbers, &["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
            set(
                format!(
                    "SELECT a.rowid, a.distance FROM {{0}} WHERE {{0w}} {all} SELECT b.rowid, b.distance FROM {{1}} WHERE {{1w}}"
                ),
                vec![a, b],
            )
        }
        16 => {
            let mut a = Search::new(numbers, schema, "a", given());
            let mut b = Search::new(numbers, schema, "b", given());
            some(numbers, schema, &mut a);
            some(numbers, schema, &mut b);
            let join = pick(numbers, &["JOIN", "LEFT JOIN"]);
            let join = if super::values::skipped("rowid-eq") { "LEFT JOIN" } else { join };
            set(
                format!(
                    "SELECT a.rowid, a.distance, b.distance FROM {{0}} {join} (SELECT b.rowid AS r, b.distance FROM {{1}} WHERE {{1w}} LIMIT -1) AS b ON b.r = a.rowid WHERE {{0w}}"
                ),
                vec![a, b],
            )
        }
        17 => {
            let mut b = Search::new(numbers, schema, "b", Asked::Itself);
            if chance(numbers, 50) {
                b.conditions.push(alone(numbers, schema));
            }
            set(
                "SELECT s.rowid, b.rowid, b.distance FROM {1} JOIN {0} ON {0w}".into(),
                vec![
                    b,
                    Search { asked: Asked::Nothing, ..Search::new(numbers, schema, "s", Asked::Nothing) },
                ],
            )
        }
        _ => counted(numbers, schema),
    }
}

/// Rows of the table without a search: any condition, any join.
fn scan(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", Asked::Nothing);
    for _ in 0..pick(numbers, &[0, 1, 2, 3]) {
        let condition = alone(numbers, schema);
        if !condition.text.contains("distance") {
            a.conditions.push(condition);
        }
    }
    let shown = shown(numbers, schema, &a);
    let join = match numbers.below(6) {
        0 => " JOIN d ON d.id = a.rowid",
        1 => " LEFT JOIN d ON d.u = a.rowid",
        2 if !schema.typed().is_empty() => {
            a.conditions.push(across(numbers, schema, "d", Place::After));
            ", d"
        }
        _ => "",
    };
    let (order, how) = if join.is_empty() && chance(numbers, 50) {
        (" ORDER BY a.rowid DESC", How::Ordered)
    } else {
        ("", How::Set)
    };
    let from = if join.contains("LEFT") || !join.starts_with(" JOIN") || chance(numbers, 50) {
        format!("{{0}}{join}")
    } else {
        "d JOIN {0} ON d.id = a.rowid".into()
    };
    let limit = (how == How::Ordered && chance(numbers, 40)).then(|| numbers.below(5) as i64);
    Query { form: format!("SELECT {shown} FROM {from} WHERE {{0w}}{order}"), searches: vec![a], how, limit }
}

fn single(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", given());
    if perhaps(numbers, "limit", 10) {
        a.range = true;
        a.knobs.clear();
        let exact = !schema.trains;
        if exact {
            let limit = if super::values::skipped("limit-all") { 3 } else { pick(numbers, &[0, 1, 3, -1]) };
            let form = "SELECT a.rowid, a.distance FROM {0} WHERE {0w} ORDER BY a.distance, a.rowid".into();
            return Query { form, searches: vec![a], how: How::Ordered, limit: Some(limit) };
        }
        a.range = false;
        a.knobs.push("{a}.nprobe = -1".into());
    }
    some(numbers, schema, &mut a);
    if chance(numbers, 15) {
        a.range = true;
        let most = pick(numbers, &["1.5", "3", "'2'", "0", "-1", "1e300"]);
        a.conditions.push(Condition { text: format!("{{a}}.distance <= {most}"), place: Place::Before });
        // A bound that SQLite keeps beside it takes no part.
        a.conditions.retain(|condition| condition.place != Place::Either);
    }
    let shown = shown(numbers, schema, &a);
    let (order, how) = match numbers.below(4) {
        0 => ("", How::Ordered),
        1 => (" ORDER BY a.distance, a.rowid", How::Ordered),
        2 => (" ORDER BY a.rowid DESC", How::Ordered),
        _ => ("", How::Set),
    };
    let limit = (!order.is_empty() && !a.range && chance(numbers, 30)).then(|| numbers.below(4) as i64);
    Query { form: format!("SELECT {shown} FROM {{0}} WHERE {{0w}}{order}"), searches: vec![a], how, limit }
}

fn batch(numbers: &mut Numbers, schema: &Schema) -> Query {
    let vectors = (0..1 + numbers.below(3)).map(|_| schema.spaces[0].vector(numbers)).collect();
    let mut a = Search::new(numbers, schema, "a", Asked::Batch(vectors));
    a.k = a.k.or(Some(2));
    some(numbers, schema, &mut a);
    if perhaps(numbers, "packed", 40) {
        // What SQLite looks at after the search is refused where a row stands for a query.
        let kept = [" LIKE ", " GLOB ", "NOT NULL", "NOTNULL"];
        a.conditions.retain(|c| c.place == Place::Before && !kept.iter().any(|word| c.text.contains(word)));
        let form = "SELECT a.query, a.rowids, a.distances FROM {0} WHERE {0w}".into();
        return Query { form, searches: vec![a], how: How::Packed, limit: None };
    }
    let shown = shown(numbers, schema, &a);
    let form =
        format!("SELECT a.query, {shown} FROM {{0}} WHERE {{0w}} ORDER BY a.query, a.distance, a.rowid");
    Query { form, searches: vec![a], how: How::Ordered, limit: None }
}

/// The answers joined with the rows they belong to, in each form of join.
fn joined(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", given());
    some(numbers, schema, &mut a);
    let shown = shown(numbers, schema, &a);
    let by_rowid = perhaps(numbers, "rowid-eq", 75);
    let on =
        if by_rowid { pick(numbers, &["d.id = a.rowid", "a.rowid = d.id", "d.u = a.rowid"]) } else { "1" };
    let inner = numbers.below(8);
    // A table to the left of a CROSS or LEFT JOIN is known before: tests/join_matrix.rs.
    if matches!(inner, 0 | 1 | 2 | 4) && perhaps(numbers, "joined-conditions", 50) {
        a.conditions.push(across(numbers, schema, "d", Place::After));
        if chance(numbers, 30) {
            a.conditions.push(across(numbers, schema, "d", Place::After));
        }
    }
    let theirs = pick(numbers, &["1", "1", "d.id > 2", "d.s IS NOT NULL", "d.x > 1", "d.id <> 5"]);
    let form = match inner {
        0 => format!("SELECT {shown}, d.id FROM {{0}} JOIN d ON {on} WHERE {{0w}} AND {theirs}"),
        1 => format!("SELECT {shown}, d.id FROM d JOIN {{0}} ON {on} WHERE {{0w}} AND {theirs}"),
        2 => format!("SELECT {shown}, d.id FROM {{0}} CROSS JOIN d ON {on} WHERE {{0w}} AND {theirs}"),
        3 => format!("SELECT {shown}, d.id FROM d CROSS JOIN {{0}} ON {on} WHERE {theirs} AND {{0w}}"),
        4 => format!("SELECT {shown}, d.id FROM {{0}}, d WHERE {{0w}} AND {on} AND {theirs}"),
        5 => format!("SELECT {shown}, d.id FROM d LEFT JOIN {{0}} ON {on} AND {{0w}} WHERE {theirs}"),
        6 => format!("SELECT {shown}, d.id FROM {{0}} LEFT JOIN d ON {on} AND {theirs} WHERE {{0w}}"),
        _ => format!(
            "SELECT {shown}, d.id, e.id FROM d JOIN {{0}} ON {on} LEFT JOIN d AS e ON e.u = a.rowid WHERE {{0w}} AND {theirs}"
        ),
    };
    Query { form, searches: vec![a], how: How::Set, limit: None }
}

/// A search for each row of a table of queries.
fn with_queries(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", Asked::Queries);
    if chance(numbers, 60) {
        a.conditions.push(alone(numbers, schema));
    }
    if chance(numbers, 50) {
        a.conditions.push(across(numbers, schema, "q", Place::Before));
    }
    let shown = shown(numbers, schema, &a);
    let form = match numbers.below(5) {
        0 => format!("SELECT q.id, {shown} FROM q JOIN {{0}} ON {{0w}}"),
        1 => format!("SELECT q.id, {shown} FROM {{0}} JOIN q ON {{0w}}"),
        2 => format!("SELECT q.id, {shown} FROM q, {{0}} WHERE {{0w}}"),
        3 => format!("SELECT q.id, {shown} FROM q LEFT JOIN {{0}} ON {{0w}}"),
        _ => {
            let on = if super::values::skipped("rowid-eq") { "1" } else { "d.u = a.rowid" };
            let join = pick(numbers, &["LEFT JOIN", "JOIN"]);
            format!("SELECT q.id, d.id, {shown} FROM q JOIN {{0}} {join} d ON {on} WHERE {{0w}}")
                .replace("{0} ", "{0} ON 1 ")
        }
    };
    Query { form, searches: vec![a], how: How::Set, limit: None }
}

/// EXISTS, IN, and scalar subqueries.
fn correlated(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", given());
    some(numbers, schema, &mut a);
    let not = pick(numbers, &["", "NOT "]);
    let by_rowid = |numbers: &mut Numbers, a: &mut Search| {
        if perhaps(numbers, "rowid-eq", 60) {
            let op = pick(numbers, &["{a}.rowid = d.id", "d.u = {a}.rowid"]);
            a.conditions.push(Condition { text: op.into(), place: Place::After });
        }
    };
    let form = match numbers.below(4) {
        0 => {
            by_rowid(numbers, &mut a);
            if perhaps(numbers, "exists-conditions", 40) {
                // SQLite from 3.51 on makes a join of EXISTS.
                let unsure = a.conditions.iter().any(|condition| condition.place == Place::Either);
                if !unsure {
                    a.conditions.push(across(numbers, schema, "d", Place::Either));
                }
            }
            format!("SELECT d.id FROM d WHERE {not}EXISTS (SELECT 1 FROM {{0}} WHERE {{0w}})")
        }
        1 => {
            let column = pick(numbers, &["id", "u"]);
            format!("SELECT d.id FROM d WHERE d.{column} {not}IN (SELECT a.rowid FROM {{0}} WHERE {{0w}})")
        }
        2 => {
            by_rowid(numbers, &mut a);
            if chance(numbers, 50) {
                a.conditions.push(across(numbers, schema, "d", Place::Before));
            }
            "SELECT d.id, (SELECT count(*) || ':' || sum(a.rowid) || ':' || max(a.distance) FROM {0} WHERE {0w}) FROM d"
                .into()
        }
        _ => {
            by_rowid(numbers, &mut a);
            "SELECT d.id, (SELECT a.distance FROM {0} WHERE {0w} ORDER BY a.distance, a.rowid LIMIT 1) FROM d"
                .into()
        }
    };
    Query { form, searches: vec![a], how: How::Set, limit: None }
}

/// Subqueries in FROM and common table expressions, with conditions outside.
fn nested(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", given());
    some(numbers, schema, &mut a);
    let flattened = chance(numbers, 50);
    let mut columns = "a.rowid, a.distance".to_string();
    for column in schema.typed() {
        columns.push_str(&format!(", a.{}", column.name));
    }
    for _ in 0..numbers.below(3) {
        let condition = alone(numbers, schema);
        let typed =
            schema.typed().iter().any(|column| condition.text.contains(&format!("{{a}}.{} ", column.name)));
        let lone = condition.text.matches("{a}.").count() == 1;
        if typed && lone && condition.place == Place::Before {
            let place = if flattened { Place::Before } else { Place::After };
            a.outer.push(Condition { place, ..condition });
        }
    }
    let join = match numbers.below(3) {
        0 if perhaps(numbers, "rowid-eq", 100) => " JOIN d ON d.id = z.rowid",
        1 => " LEFT JOIN d ON d.id = z.rowid",
        _ => "",
    };
    let form = match (flattened, numbers.below(2)) {
        (true, 0) => {
            format!("SELECT * FROM (SELECT {columns} FROM {{0}} WHERE {{0w}}) AS z{join} WHERE {{0o}}")
        }
        (true, _) => format!(
            "WITH z AS NOT MATERIALIZED (SELECT {columns} FROM {{0}} WHERE {{0w}}) SELECT * FROM z{join} WHERE {{0o}}"
        ),
        (false, 0) => format!(
            "WITH z AS MATERIALIZED (SELECT {columns} FROM {{0}} WHERE {{0w}}) SELECT * FROM z{join} WHERE {{0o}}"
        ),
        _ => format!(
            "SELECT * FROM (SELECT {columns} FROM {{0}} WHERE {{0w}} ORDER BY a.distance, a.rowid LIMIT 100) AS z{join} WHERE {{0o}}"
        ),
    };
    Query { form, searches: vec![a], how: How::Set, limit: None }
}

/// Aggregates and window functions over answers.
fn counted(numbers: &mut Numbers, schema: &Schema) -> Query {
    let mut a = Search::new(numbers, schema, "a", given());
    some(numbers, schema, &mut a);
    let group =
        schema.typed().first().map_or("a.rowid % 2".to_string(), |column| format!("a.{}", column.name));
    let form = match numbers.below(4) {
        0 => "SELECT count(*), sum(a.rowid), min(a.distance), max(a.distance) FROM {0} WHERE {0w}".into(),
        1 => format!("SELECT {group}, count(*), min(a.distance) FROM {{0}} WHERE {{0w}} GROUP BY 1 HAVING count(*) > 0"),
        2 => "SELECT a.rowid, row_number() OVER (ORDER BY a.distance, a.rowid), lag(a.rowid) OVER (ORDER BY a.distance, a.rowid) FROM {0} WHERE {0w}".into(),
        _ => format!("SELECT DISTINCT {group} FROM {{0}} WHERE {{0w}}"),
    };
    Query { form, searches: vec![a], how: How::Set, limit: None }
}
