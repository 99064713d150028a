//! What a peer says over a whole session, in chunks of any size: reader, state machine and Rib.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| bgp_fuzz::session::check(octets));
