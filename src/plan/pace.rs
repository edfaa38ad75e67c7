//! At which moments the successors of values are due. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::rotation::Turn;
use crate::api::{Rotation, RotationSchedule, Schedule, Unusable};

/// A schedule of which nothing comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error(
        "rotation.schedule: \"{0}\" is not a cron expression: write minute, hour, day of the month, month and day of the week, such as \"0 3 1 * *\""
    )]
    Cron(String),
    /// Its time zone is not known.
    #[error(
        "rotation.schedule: time zone \"{0}\" is not known: write a name of the tz database, such as Europe/Berlin"
    )]
    TimeZone(String),
    /// Its moments never come.
    #[error(
        "rotation.schedule: \"{0}\" never comes: correct its day of the month, month or day of the week, or an hour that its time zone always leaves out"
    )]
    Never(String),
}

/// When successors are due: by the moments of a schedule, or by their age.
pub(super) struct Pace {
    schedule: Option<Schedule>,
    every: Option<Duration>,
}

impl Pace {
    pub(super) fn of(rotation: &Rotation) -> Result<Self, ScheduleError> {
        let schedule = rotation.schedule.as_ref().map(scheduled).transpose()?;
        Ok(Self { schedule, every: rotation.every.map(|every| every.0) })
    }

    /// When the successor of a value of this age is due.
    pub(super) fn due_at(&self, since: Timestamp) -> Option<Timestamp> {
        match &self.schedule {
            Some(schedule) => schedule.around(since).next,
            None => self.every.and_then(|every| after(since, every)),
        }
    }

    pub(super) fn turn(&self, since: Timestamp, now: Timestamp) -> Turn {
        match self.due_at(since) {
            Some(at) if at <= now => Turn::Now,
            at => Turn::At(at),
        }
    }
}

fn scheduled(schedule: &RotationSchedule) -> Result<Schedule, ScheduleError> {
    let RotationSchedule { cron, time_zone } = schedule;
    Schedule::of(cron, time_zone.as_deref()).map_err(|why| match why {
        Unusable::Unreadable => ScheduleError::Cron(cron.clone()),
        Unusable::TimeZone => ScheduleError::TimeZone(time_zone.clone().unwrap_or_default()),
        Unusable::Never => ScheduleError::Never(cron.clone()),
    })
}

/// A time that is out of reach never comes.
pub(super) fn after(since: Timestamp, period: Duration) -> Option<Timestamp> {
    since.checked_add(SignedDuration::try_from(period).ok()?).ok()
}

#[cfg(any(test, fuzzing))]
pub(crate) fn first_after(schedule: &RotationSchedule, since: Timestamp) -> Result<Option<Timestamp>, ScheduleError> {
    Ok(scheduled(schedule)?.around(since).next)
}
