//! What was seen, as a page of the documentation, and read back from it.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::column::Column;

/// What a cell holds that nobody has looked at yet.
const UNSEEN: &str = "?";

/// One observation: a word, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    word: String,
    note: Option<String>,
}

impl Cell {
    /// It works.
    #[must_use]
    pub fn yes() -> Self {
        Self::word("yes")
    }

    /// It does not, for this reason.
    #[must_use]
    pub fn no(reason: &str) -> Self {
        Self::word("no").but(reason)
    }

    /// In a word of its own.
    #[must_use]
    pub fn word(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            note: None,
        }
    }

    /// With a note.
    #[must_use]
    pub fn but(self, note: &str) -> Self {
        Self {
            note: Some(note.to_owned()),
            ..self
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.note {
            None => self.word.clone(),
            Some(note) => format!("{} ({note})", self.word),
        }
    }
}

/// A row's name, and how a column comes to its cell.
pub(super) type Row = (&'static str, fn(&mut Column<'_>) -> Result<Cell>);

/// Rows that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Its rows.
    pub rows: &'static [Row],
}

/// All that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The speakers with their versions.
    heads: Vec<String>,
    /// The rows' names with each speaker's cell, section after section.
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    /// Nothing was seen yet.
    #[must_use]
    pub fn unseen(speakers: &[&str], sections: &[Section]) -> Self {
        let cells = vec![Cell::word(UNSEEN); speakers.len()];
        let rows = sections.iter().flat_map(|section| section.rows);
        Self {
            heads: speakers.iter().map(|name| (*name).to_owned()).collect(),
            rows: rows
                .map(|(name, _)| ((*name).to_owned(), cells.clone()))
                .collect(),
        }
    }

    /// What a page says.
    pub fn read(page: &str) -> Result<Self> {
        let note = |line: &str| {
            let (number, note) = line.split_once(". ")?;
            Some((number.parse().ok()?, note.to_owned()))
        };
        let notes: Vec<(usize, String)> = page.lines().filter_map(note).collect();
        let cell = |text: &str| {
            let Some((word, link)) = text.split_once(" [") else {
                return Ok(Cell::word(text));
            };
            let number = link.strip_suffix("](#notes)").and_then(|n| n.parse().ok());
            let note = notes.iter().find(|(known, _)| Some(*known) == number);
            let (_, note) = note.with_context(|| format!("no such note: {text}"))?;
            anyhow::Ok(Cell::word(word).but(note))
        };
        let mut heads = Vec::new();
        let mut rows = Vec::new();
        for line in page.lines() {
            let Some(line) = line.strip_prefix("| ") else {
                continue;
            };
            let mut parts = line.trim_end_matches(" |").split(" | ");
            let name = parts.next().unwrap_or_default();
            if let Some(first) = name.strip_prefix("| ") {
                heads = [first]
                    .into_iter()
                    .chain(parts)
                    .map(str::to_owned)
                    .collect();
            } else {
                let cells = parts.map(cell).collect::<Result<Vec<_>>>()?;
                ensure!(
                    cells.len() == heads.len(),
                    "a row of another length: {line}"
                );
                rows.push((name.to_owned(), cells));
            }
        }
        Ok(Self { heads, rows })
    }

    /// Which of the columns is of the speaker of this name.
    fn place(&self, speaker: &str) -> Option<usize> {
        let of = |head: &String| head.split(' ').next() == Some(speaker);
        self.heads.iter().position(of)
    }

    /// What a speaker's column says otherwise than these cells, row by row.
    #[must_use]
    pub fn denied(&self, speaker: &str, seen: &[(&str, Cell)]) -> Vec<String> {
        let Some(at) = self.place(speaker) else {
            return vec![format!("it does not know {speaker}")];
        };
        let mut rows = self.rows.iter();
        let mut denied = Vec::new();
        for (name, cell) in seen {
            // Some rows may have been left out, and a name can stand there twice.
            match rows.find(|(known, _)| known == name) {
                Some((_, cells)) if cells.get(at) == Some(cell) => {}
                Some((_, cells)) => denied.push(format!(
                    "{speaker} · {name}: seen {}, documented {}",
                    cell.shown(),
                    cells.get(at).map_or_else(String::new, Cell::shown)
                )),
                None => denied.push(format!("{speaker} · {name}: no such row is documented")),
            }
        }
        denied
    }

    /// Takes up a speaker's whole column.
    pub fn put(&mut self, speaker: &str, head: String, cells: Vec<Cell>) -> Result<()> {
        let at = self.place(speaker).context("no such column")?;
        ensure!(cells.len() == self.rows.len(), "not all of its rows");
        for ((_, row), seen) in self.rows.iter_mut().zip(cells) {
            if let Some(cell) = row.get_mut(at) {
                *cell = seen;
            }
        }
        if let Some(known) = self.heads.get_mut(at) {
            *known = head;
        }
        Ok(())
    }

    /// Has it these rows, in this order?
    #[must_use]
    pub fn has_rows_of(&self, sections: &[Section]) -> bool {
        let rows = sections.iter().flat_map(|section| section.rows);
        rows.map(|(name, _)| *name)
            .eq(self.rows.iter().map(|(name, _)| name.as_str()))
    }

    /// As a page.
    #[must_use]
    pub fn page(&self, preface: &str, sections: &[Section]) -> String {
        let mut page = preface.to_owned();
        let mut notes: Vec<&str> = Vec::new();
        let mut rows = self.rows.iter();
        for section in sections {
            let _ = writeln!(
                page,
                "\n## {}\n| | {} |",
                section.title,
                self.heads.join(" | ")
            );
            let _ = writeln!(page, "|---|{}", "---|".repeat(self.heads.len()));
            for (name, cells) in rows.by_ref().take(section.rows.len()) {
                let _ = write!(page, "| {name} |");
                for cell in cells {
                    let _ = match &cell.note {
                        None => write!(page, " {} |", cell.word),
                        Some(note) => {
                            let number = number_of(&mut notes, note);
                            write!(page, " {} [{number}](#notes) |", cell.word)
                        }
                    };
                }
                page.push('\n');
            }
        }
        page += "\n## Notes\n";
        for (number, note) in (1..).zip(notes) {
            let _ = writeln!(page, "{number}. {note}");
        }
        page
    }
}

/// Equal notes have one number.
fn number_of<'a>(notes: &mut Vec<&'a str>, note: &'a str) -> usize {
    let at = notes.iter().position(|known| *known == note);
    at.map_or_else(
        || {
            notes.push(note);
            notes.len()
        },
        |at| at + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::{Cell, Section, Table};

    const ROWS: &[super::Row] = &[("one", |_| Ok(Cell::yes())), ("two", |_| Ok(Cell::yes()))];
    const SECTIONS: [Section; 1] = [Section {
        title: "All",
        rows: ROWS,
    }];
    const PAGE: &str = "# Head\n\n## All\n| | A 1 | B 2 |\n|---|---|---|\n| one | no [1](#notes) | yes [2](#notes) |\n| two | yes | no [1](#notes) |\n\n## Notes\n1. cannot\n2. odd\n";

    fn seen() -> Table {
        let mut table = Table::unseen(&["A", "B"], &SECTIONS);
        let a = vec![Cell::no("cannot"), Cell::yes()];
        let b = vec![Cell::yes().but("odd"), Cell::no("cannot")];
        table.put("B", "B 2".into(), b).expect("a column");
        table.put("A", "A 1".into(), a).expect("a column");
        table
    }

    #[test]
    fn equal_notes_have_one_number() {
        assert_eq!(seen().page("# Head\n", &SECTIONS), PAGE);
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let table = Table::read(PAGE).expect("a table");
        assert_eq!(table, seen());
        assert!(table.has_rows_of(&SECTIONS));
    }

    #[test]
    fn what_is_seen_otherwise_is_named_by_speaker_and_row() {
        let one = [("one", Cell::yes().but("odd"))];
        assert_eq!(seen().denied("B", &one), Vec::<String>::new());
        assert_eq!(
            seen().denied("A", &[("two", Cell::no("asleep"))]),
            ["A · two: seen no (asleep), documented yes"]
        );
    }
}
