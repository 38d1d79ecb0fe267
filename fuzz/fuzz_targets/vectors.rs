#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use sqlite_ivf_fuzz::vectors::{SEEDS, body};

fuzz_target!(|data: &[u8]| body(data));

// Now and then an input to begin with: to guess one takes long.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match SEEDS.get(seed as usize % 128) {
        Some(input) if input.len() <= max_size => {
            data[..input.len()].copy_from_slice(input);
            input.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
