//! The body of an OPEN.
#![no_main]

use bgp::wire::Kind;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Some(message) = bgp_fuzz::framed(Kind::Open, body) {
        bgp_fuzz::check_stream(&message, &bgp_fuzz::context(0));
    }
});
