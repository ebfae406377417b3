//! Load series from tables, played along with a recording.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use crate::domain::signal::{Fact, LoadSample, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::source::recording::RecordingError;

/// `KIND/NAMESPACE/NAME=FILE:COLUMN:START_ROW:STEP_S`: whose load it is, the gzip table, the column
/// with the values, the data row (from 0) that was played at the start, and the seconds of the
/// recording that one row lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSource {
    /// Whose load it is.
    pub workload: WorkloadRef,
    /// A gzip CSV file with a header row.
    pub file: PathBuf,
    /// Name of the column with the values.
    pub column: String,
    /// Data row at the start.
    pub start_row: usize,
    /// Seconds per row.
    pub step_s: f64,
}

impl FromStr for LoadSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}`: write KIND/NAMESPACE/NAME=FILE:COLUMN:START_ROW:STEP_S");
        let (workload, rest) = text.split_once('=').ok_or_else(form)?;
        let mut parts = rest.rsplitn(4, ':'); // from the end: a path may hold a colon
        let mut next = || parts.next().ok_or_else(form);
        let (step_s, start_row, column, file) = (next()?, next()?, next()?, next()?);
        let step_s: f64 = step_s.parse().map_err(|_| form())?;
        if !(step_s.is_finite() && step_s >= 0.001) {
            return Err(format!("`{text}`: a row lasts 0.001 s or more"));
        }
        Ok(Self {
            workload: workload.parse()?,
            file: file.into(),
            column: column.to_owned(),
            start_row: start_row.parse().map_err(|_| form())?,
            step_s,
        })
    }
}

impl LoadSource {
    /// Folder and file without extensions: `crane/input2`.
    fn series(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').next().unwrap_or_default().to_owned();
        let folder = self.file.parent().and_then(|folder| folder.file_name());
        match folder {
            Some(folder) => format!("{}/{name}", folder.to_string_lossy()),
            None => name,
        }
    }
}

/// One sample per row, from `start` to `end`.
pub(super) fn samples(
    load: &LoadSource,
    start: Timestamp,
    end: Timestamp,
) -> Result<Vec<Signal>, RecordingError> {
    let table = |reason: String| RecordingError::Table {
        path: load.file.clone(),
        reason,
    };
    let file = std::fs::File::open(&load.file).map_err(|source| RecordingError::Io {
        path: load.file.clone(),
        source,
    })?;
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
    let headers = reader.headers().map_err(|e| table(e.to_string()))?;
    let column = headers.iter().position(|name| name == load.column);
    let column = column.ok_or_else(|| {
        let names: Vec<_> = headers.iter().collect();
        table(format!(
            "no column `{}`: it has {}",
            load.column,
            names.join(", ")
        ))
    })?;
    let mut found = Vec::new();
    for (index, row) in reader.records().skip(load.start_row).enumerate() {
        let at = start + Duration::from_secs_f64(index as f64 * load.step_s);
        if at > end {
            break;
        }
        let row = row.map_err(|e| table(e.to_string()))?;
        let value = value(&row, column).map_err(|text| {
            table(format!(
                "row {}: `{text}` is no finite number",
                load.start_row + index
            ))
        })?;
        found.push(sample(load, index, at, value));
    }
    if found.is_empty() {
        return Err(table(format!("it has no data row {}", load.start_row)));
    }
    Ok(found)
}

fn value(row: &StringRecord, column: usize) -> Result<f64, String> {
    let text = row.get(column).unwrap_or_default().trim();
    let value = text.parse().ok().filter(|value: &f64| value.is_finite());
    // Twelve digits: no load is measured better, and JSON readers return up to 15 unharmed.
    let value = value.and_then(|value| format!("{value:.11e}").parse().ok());
    value.ok_or_else(|| text.to_owned())
}

fn sample(load: &LoadSource, index: usize, at: Timestamp, value: f64) -> Signal {
    let series = load.series();
    let id = format!("{}/{}", load.workload, load.start_row + index);
    let fact = LoadSample {
        series: series.clone(),
        workload: Some(load.workload.clone()),
        value,
    };
    Signal::new(&format!("/load/{series}"), id, at, Fact::LoadSampled(fact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_written_in_one_word() {
        let load: LoadSource = "Deployment/shop/auth=data/crane/input7.csv.gz:value:13395:1"
            .parse()
            .unwrap();
        assert_eq!(load.workload.name, "auth");
        assert_eq!((load.start_row, load.step_s), (13395, 1.0));
        assert_eq!(load.series(), "crane/input7");
        for bad in [
            "",
            "a=b",
            "Deployment/a/b=f:c:x:1",
            "Deployment/a/b=f:c:1:0",
            "a=f:c:1:1",
        ] {
            assert!(bad.parse::<LoadSource>().is_err(), "{bad}");
        }
    }
}
