//! Load and arrivals out of tables: a CSV with holes, text, unsorted or doubled times.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::compose::spec::{Fill, Load, Where};
use crate::domain::time::Timestamp;

/// Most rows of a table: three million minutes are almost six years.
const ROWS_MAX: usize = 3_000_000;

/// A gap of more than so many usual steps is a hole.
const HOLE_STEPS: f64 = 1.9;

/// A table's fault: the row (from 1, the header not counted; 0 for the whole table), the column (none
/// where no cell was reached), the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    /// from one
    pub row: usize,
    /// its name
    pub column: String,
    /// what is wrong, and the mend
    pub reason: String,
}

/// Which cells of a table are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Of the time.
    pub time: &'a str,
    /// Of the value; without one every row is a 1.
    pub value: Option<&'a str>,
    /// Only these rows.
    pub only: Option<&'a Where>,
    /// Mend what can be mended.
    pub mend: bool,
}

/// A load over time: straight lines, or steps, between points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    points: Vec<(f64, f64)>,
    hold: bool,
}

/// Reads the rows of a table in the order of their times, in unix seconds.
pub fn rows(file: &Path, columns: Columns<'_>) -> Result<Vec<(f64, f64)>, TableFault> {
    let unread = |e| fault(0, "", format!("cannot be read: {e}; name a file of rows"));
    let opened = File::open(file).map_err(unread)?;
    let reader: Box<dyn Read> = if file.extension().is_some_and(|ext| ext == "gz") {
        Box::new(MultiGzDecoder::new(BufReader::new(opened)))
    } else {
        Box::new(BufReader::new(opened))
    };
    table(reader, columns)
}

/// As `rows`, from any reader of CSV.
pub fn table(reader: impl Read, columns: Columns<'_>) -> Result<Vec<(f64, f64)>, TableFault> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let broken = |row: usize, e: csv::Error| fault(row, columns.time, e.to_string());
    let headers = csv.headers().map_err(|e| broken(0, e))?.clone();
    if headers.is_empty() {
        return Err(fault(0, "", "is empty; name a file of rows".into()));
    }
    let places = Places::of(&headers, columns)?;
    let mut found: Vec<(f64, f64)> = Vec::new();
    let mut record = csv::StringRecord::new();
    for row in 1.. {
        if !csv.read_record(&mut record).map_err(|e| broken(row, e))? {
            break;
        }
        let Some((at, value)) = places.read(&record, row, columns)? else {
            continue;
        };
        if let Some((before, _)) = found.last()
            && !columns.mend
            && columns.value.is_some()
            && at <= *before
        {
            let what = if at == *before {
                "is there twice"
            } else {
                "is before the row above"
            };
            let reason = format!("{at} {what}; sort the rows, or set mend = true");
            return Err(fault(row, columns.time, reason));
        }
        found.push((at, value));
        if found.len() > ROWS_MAX {
            let reason = format!("more than {ROWS_MAX} rows; take a part of them");
            return Err(fault(row, columns.time, reason));
        }
    }
    Ok(tidied(found, columns.value.is_some()))
}

fn fault(row: usize, column: &str, reason: String) -> TableFault {
    TableFault {
        row,
        column: column.to_owned(),
        reason,
    }
}

/// Where the wanted cells stand in a row.
struct Places<'a> {
    time: usize,
    value: Option<usize>,
    only: Option<(usize, &'a str)>,
}

impl<'a> Places<'a> {
    fn of(headers: &csv::StringRecord, columns: Columns<'a>) -> Result<Self, TableFault> {
        let known: Vec<&str> = headers.iter().map(str::trim).collect();
        let index = |name: &str| {
            let found = known.iter().position(|column| *column == name);
            let reason = || format!("no such column; there are {}", known.join(", "));
            found.ok_or_else(|| fault(0, name, reason()))
        };
        let only = columns.only;
        let only = only.map(|only| Ok((index(&only.column)?, only.is.as_str())));
        Ok(Self {
            time: index(columns.time)?,
            value: columns.value.map(index).transpose()?,
            only: only.transpose()?,
        })
    }

    /// Time and value of a row; `None` for a hole, and for a row that is not wanted.
    fn read(
        &self,
        record: &csv::StringRecord,
        row: usize,
        columns: Columns<'_>,
    ) -> Result<Option<(f64, f64)>, TableFault> {
        let cell = |index: usize| record.get(index).unwrap_or_default().trim();
        if self.only.is_some_and(|(index, is)| cell(index) != is) {
            return Ok(None);
        }
        let Some(at) = instant(cell(self.time)) else {
            if columns.mend {
                return Ok(None);
            }
            let reason = format!(
                "`{}` is no time; write unix seconds or RFC 3339, or set mend = true",
                cell(self.time)
            );
            return Err(fault(row, columns.time, reason));
        };
        let value = match self.value {
            None => Some(1.0),
            Some(index) => number(cell(index), columns.mend)
                .map_err(|reason| fault(row, columns.value.unwrap_or_default(), reason))?,
        };
        Ok(value.map(|value| (at, value)))
    }
}

/// In order; of doubled times the mean, where they carry values.
fn tidied(mut found: Vec<(f64, f64)>, merge: bool) -> Vec<(f64, f64)> {
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    if !merge {
        return found;
    }
    let mut merged: Vec<(f64, f64, f64)> = Vec::with_capacity(found.len());
    for (at, value) in found {
        match merged.last_mut() {
            Some(last) if last.0 == at => {
                last.1 += value;
                last.2 += 1.0;
            }
            _ => merged.push((at, value, 1.0)),
        }
    }
    merged
        .into_iter()
        .map(|(at, sum, count)| (at, sum / count))
        .collect()
}

/// A value, or `None` for a hole; text and what is below 0 are refused, or holes too.
fn number(cell: &str, mend: bool) -> Result<Option<f64>, String> {
    if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
        return Ok(None);
    }
    match cell.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(Some(value)),
        _ if mend => Ok(None),
        Ok(value) => Err(format!(
            "{value} is no load: at least 0; leave the cell empty for a hole, or set mend = true"
        )),
        Err(_) => Err(format!(
            "`{cell}` is no number; leave the cell empty for a hole, or set mend = true"
        )),
    }
}

/// Unix seconds of a cell.
#[must_use]
pub fn instant(cell: &str) -> Option<f64> {
    if let Ok(seconds) = cell.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    if let Ok(at) = cell.parse::<Timestamp>() {
        return Some(at.as_secs_f64());
    }
    let local: jiff::civil::DateTime = cell.replacen(' ', "T", 1).parse().ok()?;
    let at = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(at.as_microsecond() as f64 / 1e6)
}

// === impl Series ===

impl Series {
    /// From points in seconds after `start`.
    #[must_use]
    pub fn of_points(points: &[(f64, f64)]) -> Self {
        Self {
            points: points.to_vec(),
            hold: false,
        }
    }

    /// From a table, in the scenario's own time (seconds after `start`): `from` is played at 0.
    pub fn of_rows(rows: Vec<(f64, f64)>, load: &Load, until: f64) -> Result<Self, TableFault> {
        let fault = |row: usize, reason: String| TableFault {
            row,
            column: load.time.clone(),
            reason,
        };
        let Some((first, last)) = rows.first().zip(rows.last()).map(|(a, b)| (a.0, b.0)) else {
            return Err(fault(
                0,
                "no row has a value; look at `where` and `value`".into(),
            ));
        };
        let origin = match &load.from {
            None => first,
            Some(text) => instant(text)
                .filter(|at| (first..=last).contains(at))
                .ok_or_else(|| {
                    let reason = format!("`from` {text} is no time of the table, which has {first} to {last} (unix seconds)");
                    fault(0, reason)
                })?,
        };
        let end = origin + until * load.speed;
        if end > last {
            let reason = format!(
                "the table ends {:.0} s before the scenario does; take an earlier `from`, a shorter `length` or a lower `speed`",
                (end - last) / load.speed
            );
            return Err(fault(rows.len(), reason));
        }
        let usual = usual_step(&rows);
        for (row, pair) in rows.windows(2).enumerate() {
            let gap = pair[1].0 - pair[0].0;
            let used = pair[1].0 >= origin && pair[0].0 <= end;
            let hole = gap > usual * HOLE_STEPS;
            if used && hole && (load.fill == Fill::Refuse || gap > load.hole_max.0.as_secs_f64()) {
                let reason = format!(
                    "a hole of {gap:.0} s after row {}; raise `hole_max`, set `fill`, or take another `from`",
                    row + 1
                );
                return Err(fault(row + 2, reason));
            }
        }
        let points = rows
            .into_iter()
            .map(|(at, value)| ((at - origin) / load.speed, value));
        Ok(Self {
            points: points.collect(),
            hold: load.fill == Fill::Hold,
        })
    }

    /// The value at an instant, in seconds after `start`; the nearest one outside.
    #[must_use]
    pub fn at(&self, seconds: f64) -> f64 {
        let after = self.points.partition_point(|(at, _)| *at <= seconds);
        let Some(right) = self.points.get(after) else {
            return self.points.last().map_or(0.0, |(_, value)| *value);
        };
        let Some(left) = after.checked_sub(1).map(|index| self.points[index]) else {
            return right.1;
        };
        if self.hold {
            return left.1;
        }
        left.1 + (right.1 - left.1) * (seconds - left.0) / (right.0 - left.0)
    }
}

fn usual_step(rows: &[(f64, f64)]) -> f64 {
    let mut steps: Vec<f64> = rows.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    if steps.is_empty() {
        return f64::INFINITY;
    }
    let middle = steps.len() / 2;
    *steps.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns<'static> = Columns {
        time: "ts",
        value: Some("v"),
        only: None,
        mend: false,
    };

    fn read(text: &str, mend: bool) -> Result<Vec<(f64, f64)>, TableFault> {
        table(text.as_bytes(), Columns { mend, ..COLUMNS })
    }

    #[test]
    fn empty_cells_are_holes_and_are_filled_with_a_line() {
        let rows = read("ts,v\n0,10\n60,\n120,NaN\n180,40\n", false).unwrap();
        let load = Load::default();
        let series = Series::of_rows(rows, &load, 180.0).unwrap();
        assert_eq!(series.at(60.0), 20.0);
        assert_eq!(series.at(-5.0), 10.0);
    }

    #[test]
    fn a_hole_that_is_too_long_is_refused_with_its_row() {
        let rows = read("ts,v\n0,1\n60,1\n120,1\n9000,1\n9060,1\n", false).unwrap();
        let fault = Series::of_rows(rows, &Load::default(), 9000.0).unwrap_err();
        assert_eq!((fault.row, fault.column.as_str()), (4, "ts"));
        assert!(fault.reason.contains("hole of 8880 s"), "{}", fault.reason);
    }

    #[test]
    fn text_and_unsorted_and_doubled_times_are_refused_with_row_and_column() {
        for (text, row, column) in [
            ("ts,v\n0,1\n60,high\n", 2, "v"),
            ("ts,v\n0,1\n60,-3\n", 2, "v"),
            ("ts,v\nnoon,1\n", 1, "ts"),
            ("ts,v\n60,1\n0,1\n", 2, "ts"),
            ("ts,v\n60,1\n60,2\n", 2, "ts"),
            ("ts,w\n60,1\n", 0, "v"),
        ] {
            let fault = read(text, false).unwrap_err();
            assert_eq!(
                (fault.row, fault.column.as_str()),
                (row, column),
                "{text}: {fault:?}"
            );
        }
    }

    #[test]
    fn mending_sorts_takes_means_and_makes_holes_of_text() {
        let rows = read("ts,v\n60,1\n0,5\n60,3\n120,high\nnoon,1\n", true).unwrap();
        assert_eq!(rows, [(0.0, 5.0), (60.0, 2.0)]);
    }

    #[test]
    fn times_are_read_in_the_three_forms_of_the_data() {
        let unix = instant("1519862400").unwrap();
        assert_eq!(instant("2018-03-01T00:00:00Z"), Some(unix));
        assert_eq!(instant("2018-03-01 00:00:00"), Some(unix));
        assert_eq!(instant("2018-03-01 00:00"), Some(unix));
    }

    #[test]
    fn a_table_that_ends_too_early_is_refused() {
        let rows = read("ts,v\n0,1\n60,1\n", false).unwrap();
        let fault = Series::of_rows(rows, &Load::default(), 600.0).unwrap_err();
        assert!(
            fault.reason.contains("ends 540 s before"),
            "{}",
            fault.reason
        );
    }
}
