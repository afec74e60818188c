//! Generates the Rust types of the wire formats from `proto/onecode/v1/*.proto`, without an installed protoc; and tells the
//! linker what the Kafka client needs.

use std::error::Error;
use std::fs;

#[path = "../src/kafka/native/link.rs"]
mod link;

fn main() -> Result<(), Box<dyn Error>> {
    link::guard();
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    for entry in fs::read_dir("proto/onecode/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
