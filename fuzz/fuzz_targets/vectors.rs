#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sqlite_ivf_fuzz::vectors::body(data));
