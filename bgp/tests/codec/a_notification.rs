//! NOTIFICATION (RFC 6608, 8538, 9003).

use super::*;

#[test]
fn of_the_state_machine_names_the_state_and_the_message() {
    let unexpected = Notification::unexpected_message(Kind::Update, SessionState::OpenConfirm);
    assert_eq!(
        (unexpected.code, unexpected.subcode, &*unexpected.data),
        (5, 2, &[2][..])
    );
    assert_eq!(Notification::fsm_error(SessionState::OpenSent).subcode, 1);
    assert_eq!(Notification::fsm_error(SessionState::Active).subcode, 0);
}

#[test]
fn cuts_a_communication_between_characters() {
    let long = "ü".repeat(200);
    let notification = Notification::administrative_reset(&long);
    assert_eq!(notification.data.len(), 255);
    assert_eq!(notification.data[0], 254);
    assert_eq!(notification.communication(), Some("ü".repeat(127)));
    assert_eq!(
        Notification::administrative_shutdown(""),
        Notification::cease(Cease::AdministrativeShutdown)
    );
}

#[test]
fn is_fit_to_be_shown_whatever_it_says() {
    let said = |text: &[u8]| {
        let data = [&[u8::try_from(text.len()).unwrap()], text].concat();
        Notification::with_data(6, 2, data).communication()
    };
    assert_eq!(said(b"a\x1b[31mb\nc\td\x00").unwrap(), "a[31mb c d");
    assert_eq!(
        said("left\u{202e}right\u{200b}".as_bytes()).unwrap(),
        "leftright"
    );
    assert_eq!(said(b"\xff\xfe ok").unwrap(), "\u{fffd}\u{fffd} ok");
    assert_eq!(said(b" \n "), None);
    // The length lies: what there is of it is shown.
    assert_eq!(
        Notification::with_data(6, 4, &b"\xf0hi"[..])
            .communication()
            .unwrap(),
        "hi"
    );
    assert_eq!(
        Notification::with_data(6, 2, Bytes::new()).communication(),
        None
    );
    // Other subcodes have no text.
    assert_eq!(
        Notification::with_data(6, 3, &b"\x02hi"[..]).communication(),
        None
    );
}

#[test]
fn that_resets_hard_says_why() {
    let inner = Notification::hold_timer_expired();
    let hard = Notification::hard_reset(&inner);
    assert!(hard.is_hard_reset());
    assert_eq!(hard.inner(), Some(inner));
    assert_eq!(hard.to_string(), "Cease/Hard Reset (Hold Timer Expired)");
    let twice = Notification::hard_reset(&hard);
    assert_eq!(twice.to_string(), "Cease/Hard Reset");
    assert_eq!(Notification::cease(Cease::HardReset).inner(), None);
}

#[test]
fn with_too_much_data_is_cut_to_one_message() {
    let mut out = BytesMut::new();
    let long = Message::Notification(Notification::with_data(3, 9, vec![7; 9000]));
    assert_eq!(long.write(&CONTEXT, &mut out), Ok(1));
    assert_eq!(out.len(), MAX_MESSAGE);
    assert!(frame(&out, Limit::Standard).unwrap().is_some());
}
