//! TCP MD5 keys from Secrets. One that is missing holds the session down; it is never an empty password.

use bgp::config::Password;

use super::View;
use crate::{
    crd::configuration::SecretKeyRef,
    problem::{Problem, Reason},
};

/// Longest key the kernel takes (TCP_MD5SIG_MAXKEYLEN).
const MAX: usize = 80;

/// The key that `reference` points at.
pub(super) fn password(
    view: &View<'_>,
    about: &str,
    reference: Option<&SecretKeyRef>,
    problems: &mut Vec<Problem>,
) -> Password {
    let Some(SecretKeyRef { name, key }) = reference else {
        return Password::None;
    };
    match find(view, name, key) {
        Ok(password) => Password::Key(password),
        Err(reason) => {
            problems.push(
                Problem::error(
                    about,
                    format!("{reason}; the session is held down until it is put right"),
                )
                .because(Reason::SecretMissing),
            );
            Password::Missing(reason)
        }
    }
}

fn find(view: &View<'_>, name: &str, key: &str) -> Result<Box<[u8]>, String> {
    let secret = view
        .cluster
        .secrets
        .iter()
        .find(|((_, secret), _)| secret == name)
        .map(|(_, secret)| secret)
        .ok_or_else(|| format!("there is no Secret {name}"))?;
    let value = secret.0.get(key).ok_or_else(|| {
        let known: Vec<&str> = secret.0.keys().map(String::as_str).collect();
        format!(
            "Secret {name} has no key {key:?} (it has {})",
            if known.is_empty() {
                "none".into()
            } else {
                known.join(", ")
            }
        )
    })?;
    // `echo secret | base64` leaves a line end that no router has in its configuration.
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    match value.len() {
        0 => Err(format!("key {key:?} of Secret {name} is empty")),
        1..=MAX => Ok(value.into()),
        long => Err(format!(
            "key {key:?} of Secret {name} has {long} octets; TCP MD5 takes at most {MAX}"
        )),
    }
}
