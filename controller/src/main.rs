//! routelet.
fn main() {}
