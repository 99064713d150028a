//! ROUTE-REFRESH (RFC 2918, RFC 7313).

use super::*;

fn read(body: &[u8]) -> Result<Option<Message>, WireError> {
    frame(&raw(5, body), Limit::Standard)
        .unwrap()
        .unwrap()
        .message(&CONTEXT)
}

#[test]
fn of_another_family_or_subtype_is_ignored() {
    for body in [[0, 1, 0, 128], [0, 25, 0, 65], [0, 1, 3, 1], [0, 1, 255, 1]] {
        assert_eq!(read(&body), Ok(None));
    }
}

#[test]
fn with_route_filters_asks_for_all() {
    let message = read(&[0, 1, 0, 1, 1, 64, 0, 0]).unwrap().unwrap();
    assert_eq!(message.to_string(), "ROUTE-REFRESH IPv4");
}

#[test]
fn that_marks_an_end_must_have_its_length() {
    let octets = raw(5, &[0, 1, 2, 1, 0]);
    let words = "ROUTE-REFRESH Message Error/Invalid Message Length";
    refused(&octets, Limit::Standard, words, &octets);
}
