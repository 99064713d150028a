//! Which known name a misspelt one was probably meant to be.

/// The known name nearest to `given`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|name| (distance(&given, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut left = i.saturating_add(1);
        let mut row = vec![left];
        for (b, pair) in b.iter().zip(previous.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let replaced = diagonal.saturating_add(usize::from(a != *b));
            left = replaced
                .min(above.saturating_add(1))
                .min(left.saturating_add(1));
            row.push(left);
        }
        previous = row;
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_and_a_different_word_is_not() {
        let known = ["peerAddress", "peerSelector", "peerASN", "bfd"];
        assert_eq!(nearest("peerAdress", &known), Some("peerAddress"));
        assert_eq!(nearest("peerasn", &known), Some("peerASN"));
        assert_eq!(nearest("password", &known), None);
    }
}
