//! Keys from Secrets, of TCP MD5 and of TCP-AO. One that is missing holds the session down; it is never an empty password.

use bgp::config::{AoKey, Md5Key, Password};

use super::View;
use crate::{
    cluster::Secret,
    crd::{configuration::SecretKeyRef, tcp_ao::TcpAo},
    problem::{Problem, Reason},
};

/// Longest key the kernel takes (TCP_MD5SIG_MAXKEYLEN, TCP_AO_MAXKEYLEN).
const MAX: usize = 80;

/// What is added to the name of a key for that of the one before it.
const PREVIOUS: &str = ".previous";

/// The key that `reference` points at.
pub(super) fn password(
    view: &View<'_>,
    about: &str,
    reference: Option<&SecretKeyRef>,
    problems: &mut Vec<Problem>,
) -> Password {
    let Some(reference) = reference else {
        return Password::None;
    };
    let SecretKeyRef { name, key } = reference;
    match find(view, name, key) {
        Ok(current) => {
            let previous = previous(view, about, reference, problems);
            Password::Key(Md5Key {
                previous: previous.filter(|previous| *previous != current),
                current,
            })
        }
        Err(reason) => missing(about, reason, problems),
    }
}

/// The keys of TCP-AO, all or none.
pub(super) fn tcp_ao(
    view: &View<'_>,
    about: &str,
    tcp_ao: &TcpAo,
    problems: &mut Vec<Problem>,
) -> Password {
    let keys = tcp_ao.keys.iter().map(|key| {
        Ok(AoKey {
            send_id: key.send_id,
            receive_id: key.receive_id,
            algorithm: key.algorithm.into(),
            secret: find(view, &key.secret_ref.name, &key.secret_ref.key)?,
        })
    });
    match keys.collect::<Result<Vec<_>, String>>() {
        Ok(keys) => Password::Ao(keys.into()),
        Err(reason) => missing(about, reason, problems),
    }
}

fn missing(about: &str, reason: String, problems: &mut Vec<Problem>) -> Password {
    let text = format!("{reason}; the session is held down until it is put right");
    problems.push(Problem::error(about, text).because(Reason::SecretMissing));
    Password::Missing(reason)
}

/// The key before it, which stands beside it while a roll lasts. One of no use is as good as none.
fn previous(
    view: &View<'_>,
    about: &str,
    SecretKeyRef { name, key }: &SecretKeyRef,
    problems: &mut Vec<Problem>,
) -> Option<Box<[u8]>> {
    let key = format!("{key}{PREVIOUS}");
    secret(view, name)?.0.get(&key)?;
    find(view, name, &key)
        .inspect_err(|reason| {
            let text =
                format!("{reason}: it is not used; correct it, or remove it from the Secret");
            problems.push(Problem::warning(about, text));
        })
        .ok()
}

fn secret<'a>(view: &View<'a>, name: &str) -> Option<&'a Secret> {
    let mut all = view.cluster.secrets.iter();
    all.find(|((_, secret), _)| secret == name)
        .map(|(_, secret)| secret)
}

fn find(view: &View<'_>, name: &str, key: &str) -> Result<Box<[u8]>, String> {
    let secret = secret(view, name).ok_or_else(|| format!("there is no Secret {name}"))?;
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
            "key {key:?} of Secret {name} has {long} octets; the kernel takes at most {MAX}"
        )),
    }
}
