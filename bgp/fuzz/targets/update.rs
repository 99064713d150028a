//! The body of an UPDATE; the first octet chooses the context.
#![no_main]

use bgp::wire::Kind;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((first, body)) = input.split_first()
        && let Some(message) = bgp_fuzz::framed(Kind::Update, body)
    {
        bgp_fuzz::check_stream(&message, &bgp_fuzz::context(*first));
    }
});
