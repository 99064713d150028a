//! A BFD Control packet, and a session that takes it.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| bgp_fuzz::check_bfd(octets));
