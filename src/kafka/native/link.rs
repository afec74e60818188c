//! A part of the build script: has the linker lead librdkafka's own call of one function through `leader_guard.rs`, which says why.
//!
//! Only where the linker knows `--wrap`; elsewhere librdkafka stays as it is.

/// The function of librdkafka.
const WRAPPED: &str = "rd_kafkap_leader_discovery_set_topic";

/// Tells cargo.
pub(crate) fn guard() {
    println!("cargo:rerun-if-changed=src/kafka/native/link.rs");
    println!("cargo:rustc-check-cfg=cfg(leader_guard)");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cfg=leader_guard");
        println!("cargo:rustc-link-arg=-Wl,--wrap={WRAPPED}");
    }
}
