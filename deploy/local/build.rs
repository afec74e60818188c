//! Compiles the ClickHouse launcher beside the library, which then knows its path in every build: a test of another crate
//! that depends on this library does not get this crate's binaries from cargo.

use std::path::PathBuf;
use std::process::Command;

const LAUNCHER: &str = "src/bin/onecode-clickhouse.rs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LAUNCHER}");
    let variable = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"));
    let program = PathBuf::from(variable("OUT_DIR")).join("onecode-clickhouse");
    let compiled = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-name", "onecode_clickhouse", "-O", "-D", "unsafe_code", "-o"])
        .arg(&program)
        .arg(LAUNCHER)
        .status();
    match compiled {
        Ok(status) if status.success() => println!("cargo::rustc-env=ONECODE_CLICKHOUSE_LAUNCHER={}", program.display()),
        Ok(status) => panic!("rustc could not compile {LAUNCHER}: {status}"),
        Err(error) => panic!("rustc could not be started for {LAUNCHER}: {error}"),
    }
}
