//! onecode
fn main() {}
