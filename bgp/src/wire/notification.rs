//! NOTIFICATION: why a session ends (RFC 4271 §4.5, §6; RFC 4486, 6608, 8538, 9003, 9384, 9687).

use bytes::Bytes;

/// A NOTIFICATION message: code, subcode, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
    /// Data, as the code and subcode demand.
    pub data: Bytes,
}
