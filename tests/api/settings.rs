//! Settings and statistics.

use std::collections::HashSet;

use sqlite_ivf::{
    BudgetStrategy, CalibratedBy, Element, ErrorKind, Metric, Nprobe, Quantizer, SearchMode, SearchProfile,
    Settings, Table, TableOptions, Train,
};

use super::{line, open};

#[test]
fn settings_are_read_as_they_were_set() {
    let db = open();
    let table = line(&db, 10);
    assert_eq!(table.settings().unwrap(), Settings::new());
    let settings = Settings::new()
        .nprobe_share(0.25)
        .max_codes(7)
        .recall_target(0.9)
        .profile(SearchProfile::ApproxBalanced)
        .candidate_budget(8)
        .budget_strategy(BudgetStrategy::Uniform)
        .min_rows_per_list(1)
        .max_rows_per_list(9)
        .search_mode(SearchMode::Csr);
    table.set(&settings).unwrap();
    assert_eq!(table.settings().unwrap(), settings);
    // What is not said stays.
    table.set(&Settings::new().nprobe(3)).unwrap();
    assert_eq!(table.settings().unwrap(), settings.nprobe(3));
    table.reset_settings().unwrap();
    assert_eq!(table.settings().unwrap(), Settings::new().search_mode(SearchMode::Csr));
    table.integrity_check().unwrap();
}

#[test]
fn a_table_goes_back_to_what_it_was_created_with() {
    let db = open();
    let options = TableOptions::new(2).exact().max_codes(5).profile(SearchProfile::ApproxFast);
    let table = Table::create(&db, "t", &options).unwrap();
    let created = Settings::new().exact().max_codes(5).profile(SearchProfile::ApproxFast);
    assert_eq!(table.settings().unwrap(), created);
    table.set(&Settings::new().nprobe(2).max_codes(0)).unwrap();
    assert_eq!(table.settings().unwrap(), created.nprobe(2).max_codes(0));
    table.reset_settings().unwrap();
    assert_eq!(table.settings().unwrap(), created);
}

#[test]
fn settings_are_set_all_or_none() {
    let db = open();
    let table = line(&db, 10);
    for wrong in [
        Settings::new().nprobe(3).recall_target(1.5),
        Settings::new().max_codes(3).nprobe_share(2.0),
        Settings::new().nprobe(0),
    ] {
        assert_eq!(table.set(&wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
    }
    assert_eq!(table.settings().unwrap(), Settings::new());
    assert!(db.is_autocommit());
}

#[test]
fn settings_and_nprobe_have_a_text_that_sql_takes() {
    let settings = Settings::new().exact().profile(SearchProfile::Exact).recall_target(0.5);
    assert_eq!(settings.to_string(), "nprobe=-1, profile=exact, recall_target=0.5");
    for (nprobe, text) in [(Nprobe::Lists(4), "4"), (Nprobe::Share(0.5), "0.5"), (Nprobe::Exact, "-1")] {
        assert_eq!((nprobe.to_string().as_str(), text.parse::<Nprobe>().unwrap()), (text, nprobe));
    }
    let error = "many".parse::<Nprobe>().unwrap_err().to_string();
    assert_eq!(
        error,
        "nprobe must be -1 for exact, a number of lists from 1, or a share between 0 and 1, got 'many'"
    );
}

#[test]
fn statistics_tell_what_a_table_is_made_of() {
    let db = open();
    let options = TableOptions::new(2).metric(Metric::L1).seed(5).element(Element::F16);
    let table = Table::create(&db, "t", &options).unwrap();
    let before = table.stats().unwrap();
    assert_eq!((before.rows, before.nlist, before.trained, before.partitions), (0, 0, false, None));
    assert_eq!((before.calibrated_by, before.calibration_stale, &before.ignored), (None, None, &None));
    table.insert_many((0..2000).map(|i| (i, [(i % 50) as f32, (i / 50) as f32]))).unwrap();
    table.train(&Train::new().nlist(10)).unwrap();
    table.delete(7).unwrap();
    let stats = table.stats().unwrap();
    assert_eq!((stats.rows, stats.nlist, stats.trained, stats.trained_rows), (1999, 10, true, 2000));
    assert_eq!((stats.deleted, stats.dim, stats.element), (1, 2, Element::F16));
    assert_eq!((stats.metric, stats.quantizer), (Metric::L1, Quantizer::None));
    assert_eq!((stats.calibrated, stats.calibrated_by), (true, Some(CalibratedBy::Rows)));
    let parts = stats.bytes_centroids + stats.bytes_lists + stats.bytes_codes + stats.bytes_vectors;
    assert!(stats.bytes == parts && stats.bytes_vectors > 2000 * 4);
    assert!(stats.training.starts_with("trained at 2,000 rows into 10 lists"), "{}", stats.training);
    assert_eq!(stats.ver.len(), 32);
    assert_eq!(
        (before.default_search.as_str(), stats.default_search.as_str()),
        ("exact", "recall_target=0.95")
    );
    let queries: Vec<f32> = (0..40).map(|i| i as f32).collect();
    table.calibrate(&queries).unwrap();
    let stats = table.stats().unwrap();
    assert_eq!((stats.calibrated_by, stats.calibration_queries), (Some(CalibratedBy::Queries), Some(20)));
}

#[test]
fn statistics_know_every_column_of_the_function() {
    let db = open();
    let table = line(&db, 1);
    let statement = db.prepare("SELECT * FROM ivf_stats('x')").unwrap();
    let columns: HashSet<&str> = statement.column_names().collect();
    let text = format!("{:?}", table.stats().unwrap());
    let missing: Vec<&&str> = columns.iter().filter(|name| !text.contains(&format!("{name}: "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
