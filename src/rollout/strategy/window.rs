//! Whether workloads may roll at a moment, by the windows of a spec.

use jiff::Timestamp;

use crate::api::{Schedule, Unusable, Window, WindowKind};

/// Whether workloads may roll now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// They may.
    Open,
    /// They may from this moment on, if that is ever.
    Closed(Option<Timestamp>),
}

/// A window of which nothing comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Its schedule is no cron expression.
    #[error(
        "rollout.window: \"{0}\" is not a cron expression: write minute, hour, day of the month, month and day of the week, such as \"0 2 * * 1-5\""
    )]
    Schedule(String),
    /// Its time zone is not known.
    #[error("rollout.window: time zone \"{0}\" is not known: write a name of the tz database, such as Europe/Berlin")]
    TimeZone(String),
    /// It never opens.
    #[error(
        "rollout.window: \"{0}\" never comes: correct its day of the month, month or day of the week, or an hour that its time zone always leaves out"
    )]
    Never(String),
}

/// How many openings are looked at for one that no Deny covers: a year of days.
const LOOK_AHEAD: usize = 366;

struct Readable {
    kind: WindowKind,
    schedule: Schedule,
    duration: jiff::SignedDuration,
}

impl Readable {
    fn of(window: &Window) -> Result<Self, WindowError> {
        let Window { kind, schedule, time_zone, duration } = window;
        let schedule = Schedule::of(schedule, time_zone.as_deref()).map_err(|why| match why {
            Unusable::Unreadable => WindowError::Schedule(schedule.clone()),
            Unusable::TimeZone => WindowError::TimeZone(time_zone.clone().unwrap_or_default()),
            Unusable::Never => WindowError::Never(schedule.clone()),
        })?;
        let duration = jiff::SignedDuration::try_from(duration.0).unwrap_or(jiff::SignedDuration::MAX);
        Ok(Self { kind: kind.unwrap_or_default(), schedule, duration })
    }

    /// Until when it is open, if it is.
    fn open_until(&self, moment: Timestamp) -> Option<Timestamp> {
        let opened = self.schedule.around(moment).last?;
        // What ends out of reach does not end.
        let until = opened.checked_add(self.duration).unwrap_or(Timestamp::MAX);
        (until > moment).then_some(until)
    }

    fn opens_after(&self, moment: Timestamp) -> Option<Timestamp> {
        self.schedule.around(moment).next
    }
}

/// Whether workloads may roll now, by these windows.
///
/// # Errors
/// Where one of them cannot be read, or never opens: nobody knows what was meant.
pub fn opening(windows: &[Window], now: Timestamp) -> Result<Opening, WindowError> {
    let windows: Vec<_> = windows.iter().map(Readable::of).collect::<Result<_, _>>()?;
    let of = |kind| windows.iter().filter(move |window| window.kind == kind);
    let any_allow = of(WindowKind::Allow).next().is_some();
    // The moments at which anything can change are openings and closings.
    let mut moment = now;
    for _ in 0..LOOK_AHEAD {
        if let Some(until) = of(WindowKind::Deny).filter_map(|window| window.open_until(moment)).max() {
            moment = until;
            continue;
        }
        if !any_allow || of(WindowKind::Allow).any(|window| window.open_until(moment).is_some()) {
            return Ok(if moment == now { Opening::Open } else { Opening::Closed(Some(moment)) });
        }
        match of(WindowKind::Allow).filter_map(|window| window.opens_after(moment)).min() {
            Some(next) => moment = next,
            None => return Ok(Opening::Closed(None)),
        }
    }
    Ok(Opening::Closed(None))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Opening, WindowError, opening};
    use crate::api::{Timeout, Window, WindowKind};

    fn window(kind: WindowKind, schedule: &str, hours: u64, zone: Option<&str>) -> Window {
        Window {
            kind: Some(kind),
            schedule: schedule.to_owned(),
            time_zone: zone.map(str::to_owned),
            duration: Timeout(Duration::from_secs(3600 * hours)),
        }
    }

    #[test]
    fn workloads_roll_in_allowed_windows_and_never_in_denied_ones() {
        use WindowKind::{Allow, Deny};
        let nights = || window(Allow, "0 2 * * *", 4, None);
        let berlin = || window(Allow, "0 2 * * *", 4, Some("Europe/Berlin"));
        let sundays = || window(Deny, "0 0 * * 0", 24, None);
        let open = Opening::Open;
        let closed = |text: &str| Opening::Closed(Some(text.parse().expect("a time")));
        for (windows, now, wanted) in [
            (vec![], "2026-06-03T12:00:00Z", open),
            (vec![nights()], "2026-06-03T02:00:00Z", open),
            (vec![nights()], "2026-06-03T05:59:59Z", open),
            (vec![nights()], "2026-06-03T06:00:00Z", closed("2026-06-04T02:00:00Z")),
            (vec![nights()], "2026-06-03T01:59:59Z", closed("2026-06-03T02:00:00Z")),
            // Summer time: two o'clock there is midnight here.
            (vec![berlin()], "2026-06-03T00:00:00Z", open),
            (vec![berlin()], "2026-01-03T00:30:00Z", closed("2026-01-03T01:00:00Z")),
            (vec![sundays()], "2026-06-06T23:59:59Z", open),
            (vec![sundays()], "2026-06-07T00:00:00Z", closed("2026-06-08T00:00:00Z")),
            // A Sunday's night is denied, so the next one is Monday's.
            (vec![nights(), sundays()], "2026-06-06T12:00:00Z", closed("2026-06-08T02:00:00Z")),
            (vec![nights(), sundays()], "2026-06-08T02:00:00Z", open),
            (vec![window(Deny, "* * * * *", 1, None)], "2026-06-07T00:00:00Z", Opening::Closed(None)),
        ] {
            assert_eq!(opening(&windows, now.parse().expect("a time")), Ok(wanted), "{now} {windows:?}");
        }
    }

    #[test]
    fn p6_days_that_seldom_come_keep_no_thread_busy() {
        use WindowKind::{Allow, Deny};
        let mut windows = vec![window(Allow, "*/5 * * * *", 1, None), window(Deny, "0 0 * * *", 24, None)];
        windows.extend((0..8).map(|_| window(Deny, "0 0 29 2 +1#5", 1, None)));
        let began = std::time::Instant::now();
        let now = "2026-06-07T00:00:00Z".parse().expect("a time");
        // Each of the 366 days that are looked at is denied. The other eight deny one in 2044, and
        // are looked for once, not on each day.
        assert_eq!(opening(&windows, now), Ok(Opening::Closed(None)));
        assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    }

    #[test]
    fn p6_a_window_that_never_opens_is_refused_whether_it_allows_or_denies() {
        let now = "2026-06-07T00:00:00Z".parse().expect("a time");
        for kind in [WindowKind::Allow, WindowKind::Deny] {
            for schedule in ["0 0 31 2 *", "0 3 31 4,6 *", "0 3 1 * +1#5"] {
                let always = window(WindowKind::Allow, "* * * * *", 1, None);
                let windows = [always, window(kind, schedule, 1, None)];
                assert_eq!(opening(&windows, now), Err(WindowError::Never(schedule.to_owned())));
            }
            for schedule in ["0 3 * * L", "0 3 * * +", "*\t* * * * *"] {
                let windows = [window(kind, schedule, 1, None)];
                assert_eq!(opening(&windows, now), Err(WindowError::Schedule(schedule.to_owned())));
            }
        }
        // An hour that summer time leaves out.
        let windows = [window(WindowKind::Allow, "0,30 2 25-31 3 +7", 1, Some("Europe/Berlin"))];
        assert!(matches!(opening(&windows, now), Err(WindowError::Never(_))));
    }

    #[test]
    fn a_denial_without_an_end_is_no_leave() {
        let now = "2026-06-07T00:00:00Z".parse().expect("a time");
        let endless = Window { duration: Timeout(Duration::MAX), ..window(WindowKind::Deny, "0 0 * * *", 1, None) };
        assert!(matches!(opening(&[endless], now), Ok(Opening::Closed(_))));
    }

    #[test]
    fn a_window_that_cannot_be_read_says_what_is_wrong_with_it() {
        let now = "2026-06-07T00:00:00Z".parse().expect("a time");
        let schedule = window(WindowKind::Allow, "61 * * * *", 1, None);
        assert_eq!(opening(&[schedule], now), Err(WindowError::Schedule("61 * * * *".to_owned())));
        let zone = window(WindowKind::Allow, "0 0 * * *", 1, Some("Europe/Nowhere"));
        assert_eq!(opening(&[zone], now), Err(WindowError::TimeZone("Europe/Nowhere".to_owned())));
    }
}
