//! Splitting a command line into words as containerlab does: quotes and backslashes, but no shell.

use anyhow::{Result, bail};

/// The words of `line`. Quotes group, a backslash takes the next character as it is (inside double quotes only `"`, `\` and `$`), `$$` is `$`.
pub fn split(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => bail!("quote without an end: {line}"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') if matches!(characters.peek(), Some('"' | '\\' | '$')) => {
                            word.extend(characters.next())
                        }
                        Some(inner) => word.push(inner),
                        None => bail!("quote without an end: {line}"),
                    }
                }
            }
            '\\' => match characters.next() {
                Some(taken) => word.get_or_insert_default().push(taken),
                None => bail!("backslash at the end: {line}"),
            },
            '$' if characters.peek() == Some(&'$') => {
                characters.next();
                word.get_or_insert_default().push('$');
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_group_and_backslashes_escape() {
        assert_eq!(
            split(r#"vtysh -c 'conf t' -c "a \"b\" 'c'" d\ e '' f"#).unwrap(),
            ["vtysh", "-c", "conf t", "-c", "a \"b\" 'c'", "d e", "", "f"]
        );
    }

    #[test]
    fn an_open_quote_is_an_error() {
        split("echo 'a").unwrap_err();
        split("echo \"a").unwrap_err();
        split("echo \\").unwrap_err();
    }

    #[test]
    fn a_doubled_dollar_is_one() {
        assert_eq!(split("echo $$HOME").unwrap(), ["echo", "$HOME"]);
    }
}
