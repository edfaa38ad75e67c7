//! Cron expressions of windows and schedules.

use std::{cell::Cell, iter};

use croner::{Cron, Weekday, parser::CronParser};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// From then on, and to the end of [`LAST_YEAR`], there is every kind of year. There are
/// fourteen: January 1st is one of seven weekdays, and there is a February 29th or none.
/// Twenty-eight years in a row have them all where no turn of a century is among them.
const FIRST_DAY: Date = Date::constant(2101, 1, 1);
const LAST_YEAR: i16 = 2128;

/// Why a schedule is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is no cron expression.
    Unreadable,
    /// Its time zone is not known.
    TimeZone,
    /// None of its moments ever comes.
    Never,
}

/// The moments of a cron expression in a time zone.
pub(crate) struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// What was found last, and from when on it holds. A moment that comes once in decades
    /// is looked for day by day: once, however many moments lie between two of it.
    found: Cell<Option<(Timestamp, Around)>>,
}

/// The moments of a schedule around another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Around {
    /// The last that has come by then.
    pub(crate) last: Option<Timestamp>,
    /// The first that comes after it.
    pub(crate) next: Option<Timestamp>,
}

impl Schedule {
    /// What is written, in UTC where no time zone is.
    ///
    /// # Errors
    /// Where it cannot be read, or never comes.
    pub(crate) fn of(text: &str, time_zone: Option<&str>) -> Result<Self, Unusable> {
        let cron = cron_of(text).ok_or(Unusable::Unreadable)?;
        let zone = match time_zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| Unusable::TimeZone)?,
        };
        if comes(&cron, text, &zone) { Ok(Self { cron, zone, found: Cell::new(None) }) } else { Err(Unusable::Never) }
    }

    /// Its moments around this one. None is found beyond the years that the library knows.
    pub(crate) fn around(&self, moment: Timestamp) -> Around {
        if let Some((from, found)) = self.found.get()
            && from <= moment
            && found.next.is_some_and(|next| moment < next)
        {
            return found;
        }
        let at = moment.to_zoned(self.zone.clone());
        let last = self.cron.find_previous_occurrence(&at, true).ok().map(|at| at.timestamp());
        let next = self.cron.find_next_occurrence(&at, false).ok().map(|at| at.timestamp());
        let found = Around { last, next };
        self.found.set(Some((last.unwrap_or(moment), found)));
        found
    }
}

/// What is written, if it says what croner makes of it. Of any white space croner makes
/// fields, of six or seven of them seconds and years; it passes over empty parts, and over
/// a weekday of `L` alone.
fn cron_of(text: &str) -> Option<Cron> {
    let fields: Vec<&str> = text.split(' ').collect();
    let [minute, hour, day, month, weekday] = fields[..] else { return None };
    // With it a day is one of both fields. croner takes it off, and reads what is left.
    let weekday = weekday.strip_prefix('+').unwrap_or(weekday);
    let is_written = |field: &str| field.bytes().all(|byte| byte.is_ascii_graphic());
    let is_whole = |field: &str| field.split(',').all(|part| !part.is_empty());
    let is_last_of_none = weekday.split(',').any(|part| part.eq_ignore_ascii_case("L"));
    let fields = [minute, hour, day, month, weekday];
    if !fields.into_iter().all(|field| is_written(field) && is_whole(field)) || is_last_of_none {
        return None;
    }
    CronParser::new().parse(text).ok()
}

/// Whether one of its moments ever comes.
///
/// Which days it has follows from the kind of year alone, and so does which hours are left
/// out where clocks go forward, once the last change that the tz database lists by itself
/// (Morocco's, in 2087) is over and the rule of the time zone holds. So what comes at all
/// comes in the years that are looked at. And it comes again within 40 years, which bounds
/// each later search for it: no kind of year is away for longer (28 years, and 12 more
/// across a turn of a century that is no leap year).
///
/// croner would look for a day that there is not until the year 5000, whatever years it is
/// given: it is asked for a moment where there is a day.
fn comes(cron: &Cron, text: &str, zone: &TimeZone) -> bool {
    let days = iter::successors(Some(FIRST_DAY), |day| day.tomorrow().ok());
    if !days.take_while(|day| day.year() <= LAST_YEAR).any(|day| is_day_of(cron, day)) {
        return false;
    }
    let in_these_years = CronParser::new().parse(&format!("0 {text} {}-{LAST_YEAR}", FIRST_DAY.year()));
    let start = FIRST_DAY.to_zoned(zone.clone());
    in_these_years.is_ok_and(|cron| start.is_ok_and(|start| cron.find_next_occurrence(&start, true).is_ok()))
}

fn is_day_of(cron: &Cron, date: Date) -> bool {
    let month = u32::from(date.month().unsigned_abs());
    let day = u32::from(date.day().unsigned_abs());
    let weekday = Weekday::from_days_from_sunday(date.weekday().to_sunday_zero_offset().unsigned_abs().into());
    matches!(cron.pattern.month_match(month), Ok(true))
        && matches!(cron.pattern.day_match(date.year().into(), month, day, weekday), Ok(true))
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
