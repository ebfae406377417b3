//! Cron expressions: how often one fires in a stretch of time.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::time::Timestamp;

/// A parsed expression of five fields, as `CronJob`s have it (robfig/cron's standard parser), and
/// its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and day of week are alternatives unless one of them is a star.
    either_day: bool,
    zone: TimeZone,
}

/// An expression that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Not five fields and no known macro.
    #[error(
        "`{0}` is no cron expression: write five fields, or @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Form(String),
    /// One field is wrong.
    #[error("`{0}` is no {1} of a cron expression")]
    Field(String, &'static str),
    /// Not in the time zone database.
    #[error("`{0}` is no time zone that is known here")]
    Zone(String),
}

/// Longest stretch that is looked at, in minutes: two days.
const MINUTES_MAX: i64 = 2 * 24 * 60;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One field: its name, its bounds, and the names that stand for its numbers.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

impl Calendar {
    /// Reads an expression; without a zone it is in UTC, where controllers run.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, CalendarError> {
        let zone = zone.map_or(Ok(TimeZone::UTC), |name| {
            TimeZone::get(name).map_err(|_| CalendarError::Zone(name.to_owned()))
        })?;
        let written = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let parts: Vec<&str> = written.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
            return Err(CalendarError::Form(text.chars().take(100).collect()));
        };
        let field = |text: &str, name, (low, high), names| {
            let field = Field {
                name,
                low,
                high,
                names,
            };
            field.parse(text)
        };
        let starred = |text: &str| text.starts_with(['*', '?']);
        Ok(Self {
            minutes: field(minutes, "minute", (0, 59), &[])?,
            hours: field(hours, "hour", (0, 23), &[])?,
            days: field(days, "day of month", (1, 31), &[])?,
            months: field(months, "month", (1, 12), &MONTHS)?,
            weekdays: field(weekdays, "day of week", (0, 6), &WEEKDAYS)?,
            either_day: !starred(days) && !starred(weekdays),
            zone,
        })
    }

    /// How many times it fires after `from`, up to and with `until`.
    #[must_use]
    pub fn firings(&self, from: Timestamp, until: Timestamp) -> u32 {
        let minute = |at: Timestamp| at.as_micros().div_euclid(60_000_000);
        let first = minute(from) + 1;
        let last = minute(until).min(first + MINUTES_MAX);
        let fires = |minute: &i64| self.fires_at(*minute * 60);
        (first..=last).filter(fires).count() as u32
    }

    /// The next whole minute after `now`: when `firings` may say something else.
    #[must_use]
    pub fn next_look(now: Timestamp) -> Timestamp {
        now.next_whole(Duration::from_mins(1))
    }

    fn fires_at(&self, second: i64) -> bool {
        let Ok(instant) = jiff::Timestamp::from_second(second) else {
            return false;
        };
        let local = self.zone.to_datetime(instant);
        let has = |set: u64, value: i8| set & (1 << value) != 0;
        let day = has(self.days, local.day());
        let weekday = has(
            self.weekdays,
            local.date().weekday().to_sunday_zero_offset(),
        );
        has(self.minutes, local.minute())
            && has(self.hours, local.hour())
            && has(self.months, local.month())
            && if self.either_day {
                day || weekday
            } else {
                day && weekday
            }
    }
}

impl Field {
    /// A set of numbers as bits: lists of `*`, `n`, `a-b`, each with an optional `/step`.
    fn parse(&self, text: &str) -> Result<u64, CalendarError> {
        let wrong = || CalendarError::Field(text.chars().take(100).collect(), self.name);
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step.parse::<u32>().map_err(|_| wrong())?)),
                None => (part, None),
            };
            let (low, high) = match range.split_once('-') {
                Some((a, b)) => (self.number(a), self.number(b)),
                None if matches!(range, "*" | "?") => (Some(self.low), Some(self.high)),
                // `n/step` runs to the end of the field.
                None if step.is_some() => (self.number(range), Some(self.high)),
                None => (self.number(range), self.number(range)),
            };
            let (Some(low), Some(high), step @ 1..) = (low, high, step.unwrap_or(1)) else {
                return Err(wrong());
            };
            if low > high {
                return Err(wrong());
            }
            set |= (low..=high)
                .step_by(step as usize)
                .fold(0, |set, n| set | (1_u64 << n));
        }
        Ok(set)
    }

    fn number(&self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        named
            .map(|place| place as u32 + self.low)
            .or_else(|| text.parse().ok())
            .filter(|n| (self.low..=self.high).contains(n))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn in_a_day(expression: &str, day: &str) -> u32 {
        let from = at(&format!("{day}T00:00:00Z")) - Duration::from_secs(1);
        let calendar = Calendar::parse(expression, None).unwrap();
        calendar.firings(from, from + Duration::from_hours(24))
    }

    #[test]
    fn expressions_fire_as_often_as_they_say() {
        let monday = "2026-11-23";
        for (expression, times) in [
            ("* * * * *", 1440),
            ("*/15 * * * *", 96),
            ("5/20 * * * *", 72),
            ("0 9-17 * * mon-fri", 9),
            ("0,30 8 * * *", 2),
            ("@hourly", 24),
            ("0 0 * * 0", 0),
            ("0 0 23 * 5", 1),
            ("0 0 1 NOV *", 0),
        ] {
            assert_eq!(in_a_day(expression, monday), times, "{expression}");
        }
    }

    #[test]
    fn a_firing_at_the_end_counts_and_one_at_the_start_does_not() {
        let calendar = Calendar::parse("0 12 * * *", None).unwrap();
        let noon = at("2026-11-23T12:00:00Z");
        let before = noon - Duration::from_mins(10);
        assert_eq!(calendar.firings(before, noon), 1);
        assert_eq!(calendar.firings(noon, noon + Duration::from_mins(10)), 0);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_field_that_is_wrong() {
        for (bad, words) in [
            ("* * * *", "five fields"),
            ("60 * * * *", "minute"),
            ("* * 0 * *", "day of month"),
            ("*/0 * * * *", "minute"),
            ("* 5-2 * * *", "hour"),
            ("@every 5m", "five fields"),
        ] {
            let error = Calendar::parse(bad, None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(Calendar::parse("* * * * *", Some("Middle/Earth")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[*/,0-9a-z? -]{0,30}") {
            let _ = Calendar::parse(&text, None);
        }
    }
}
