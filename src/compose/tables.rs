//! A workload's tables: its load, the firings of its calendar, the arrivals of its Jobs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::compose::error::Faults;
use crate::compose::series::{self, Columns, Series, TableFault};
use crate::compose::spec::{Arrivals, Kind, Load, Workload};
use crate::domain::time::Timestamp;
use crate::forecast::calendar::Calendar;

/// Most Jobs of one workload.
const ARRIVALS_MAX: usize = 500_000;

/// What a workload reads.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Its load, with the seconds by which this copy reads it later.
    pub load: Option<(Arc<Series>, f64)>,
    /// When Jobs begin.
    pub jobs: Arc<Vec<Timestamp>>,
}

/// Begin of the silent run, start, and seconds to the end.
pub type Window = (Timestamp, Timestamp, f64);

/// Reads all tables of a workload.
pub fn read(
    key: &str,
    spec: &Workload,
    folder: &Path,
    window: Window,
    faults: &mut Faults,
) -> Tables {
    let mut tables = Tables::default();
    if let Some(load) = &spec.load {
        let copies = f64::from(spec.copies.unwrap_or(1) - 1);
        let until = window.2 + copies * load.stagger.0.as_secs_f64();
        match series_of(load, folder, until) {
            Ok(series) => tables.load = Some((Arc::new(series), 0.0)),
            Err(found) => table_fault(&format!("{key}.load"), load.file.as_deref(), &found, faults),
        }
    }
    let end = window.1 + Duration::from_secs_f64(window.2);
    let jobs = match (spec.kind, &spec.arrivals, &spec.schedule) {
        (Kind::Jobs, Some(arrivals), _) => match arrivals_of(arrivals, folder, window) {
            Ok(times) => times,
            Err(found) => {
                let file = Some(arrivals.file.as_path());
                table_fault(&format!("{key}.arrivals"), file, &found, faults);
                Vec::new()
            }
        },
        (Kind::CronJob, _, Some(schedule)) => {
            match Calendar::parse(schedule, spec.time_zone.as_deref()) {
                Ok(calendar) => firings(&calendar, window.0, end),
                Err(error) => {
                    let mend = "write five fields, and a zone of the time zone database";
                    faults.add(format!("{key}.schedule"), error.to_string(), mend);
                    Vec::new()
                }
            }
        }
        _ => Vec::new(),
    };
    tables.jobs = Arc::new(jobs);
    tables
}

fn series_of(load: &Load, folder: &Path, until: f64) -> Result<Series, TableFault> {
    let Some(file) = &load.file else {
        let points = load
            .points
            .iter()
            .map(|(at, value)| (at.0.as_secs_f64(), *value));
        return Ok(Series::of_points(&points.collect::<Vec<_>>()));
    };
    let columns = Columns {
        time: &load.time,
        value: Some(&load.value),
        only: load.only.as_ref(),
        mend: load.mend,
    };
    Series::of_rows(series::rows(&folder.join(file), columns)?, load, until)
}

fn arrivals_of(
    arrivals: &Arrivals,
    folder: &Path,
    (begin, start, until): Window,
) -> Result<Vec<Timestamp>, TableFault> {
    let columns = Columns {
        time: &arrivals.time,
        value: None,
        only: arrivals.only.as_ref(),
        mend: false,
    };
    let rows = series::rows(&folder.join(&arrivals.file), columns)?;
    let fault = |reason: String| TableFault {
        row: 0,
        column: arrivals.time.clone(),
        reason,
    };
    let first = rows
        .first()
        .ok_or_else(|| fault("no row; look at `where`".into()))?
        .0;
    let last = rows.last().map_or(first, |row| row.0);
    let origin = match &arrivals.from {
        None => first,
        Some(text) => series::instant(text)
            .filter(|at| (first..=last).contains(at))
            .ok_or_else(|| fault(format!("`from` {text} is not within {first} and {last}")))?,
    };
    let least = begin.secs_since(start);
    let seconds = rows.iter().map(|(at, _)| (at - origin) / arrivals.speed);
    let within = seconds.filter(|at| (least..until).contains(at));
    let times: Vec<Timestamp> = within
        .step_by(arrivals.every.max(1) as usize)
        .map(|at| Timestamp::from_micros(start.as_micros() + (at * 1e6) as i64))
        .take(ARRIVALS_MAX + 1)
        .collect();
    if times.len() > ARRIVALS_MAX {
        return Err(fault(format!(
            "more than {ARRIVALS_MAX} Jobs; raise `every`"
        )));
    }
    Ok(times)
}

/// Every minute at which a calendar fires.
fn firings(calendar: &Calendar, begin: Timestamp, end: Timestamp) -> Vec<Timestamp> {
    let minute = Duration::from_mins(1);
    let mut at = Calendar::next_look(begin);
    let mut found = Vec::new();
    while at <= end {
        if calendar.firings(at - minute, at) > 0 {
            found.push(at);
        }
        at = at + minute;
    }
    found
}

fn table_fault(key: &str, file: Option<&Path>, found: &TableFault, faults: &mut Faults) {
    let file = file
        .as_ref()
        .map_or(String::new(), |file| file.display().to_string());
    let place = match (found.row, found.column.as_str()) {
        (0, "") => String::new(),
        (0, column) => format!("column `{column}`: "),
        (row, column) => format!("row {row}, column `{column}`: "),
    };
    let (reason, mend) = found
        .reason
        .split_once("; ")
        .unwrap_or((&found.reason, "look at the table"));
    faults.add(key, format!("{file}: {place}{reason}"), mend);
}

impl Tables {
    /// The tables of a copy: each reads its load so much later.
    #[must_use]
    pub fn staggered(&self, copy: u32, stagger: Duration) -> Self {
        let mut own = self.clone();
        let later = f64::from(copy) * stagger.as_secs_f64();
        own.load = self.load.clone().map(|(series, _)| (series, later));
        own
    }
}
