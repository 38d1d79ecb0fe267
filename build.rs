//! Compiles the CUDA kernels, for the feature `cuda` only.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const KERNELS: &str = "src/device/fused/kernels.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed={KERNELS}");
    let nvcc = env::var_os("NVCC").map(PathBuf::from).unwrap_or_else(|| match env::var_os("CUDA_HOME") {
        Some(home) => PathBuf::from(home).join("bin/nvcc"),
        None => "nvcc".into(),
    });
    // PTX of the oldest architecture with enough shared memory. The driver compiles it for the card.
    let arch = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".into());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("kernels.ptx");
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17", &format!("-arch=compute_{arch}"), KERNELS, "-o"])
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} failed on {KERNELS}: {status}", nvcc.display()),
        Err(error) => panic!(
            "the feature cuda needs nvcc of the CUDA toolkit, {} did not start: {error}",
            nvcc.display()
        ),
    }
}
