//! A stream of any messages; its first octet chooses the context.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((first, stream)) = input.split_first() {
        bgp_fuzz::check_stream(stream, &bgp_fuzz::context(*first));
    }
});
