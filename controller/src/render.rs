//! Plain, aligned tables: one line a thing, stable enough to compare.

/// A table with a header line; columns are as wide as their widest cell, two spaces apart.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these column names.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self {
            rows: vec![columns.iter().map(|column| (*column).to_owned()).collect()],
        }
    }

    /// Adds a line. An empty cell becomes `-`, so that every line has as many words as there are columns.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "-".into() } else { cell });
        self.rows.push(cells.collect());
    }

    /// The table as text, each line ended.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let pad = width.saturating_sub(cell.chars().count()).saturating_add(2);
                line.extend(std::iter::repeat_n(' ', pad));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_cell_is_empty() {
        let mut table = Table::new(&["PEER", "AS", "STATE"]);
        table.row(["tor-r1".into(), "65001".into(), "Established".into()]);
        table.row(["x".into(), String::new(), "Idle".into()]);
        assert_eq!(
            table.text(),
            "PEER    AS     STATE\ntor-r1  65001  Established\nx       -      Idle\n"
        );
    }
}
