//! What is a schedule, and what is taken for one that never comes, against a calendar
//! that is looked through day by day.

use std::iter;

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, date},
};
use proptest::prelude::*;

use super::{Schedule, Unusable};

fn refused(text: &str, time_zone: Option<&str>) -> Option<Unusable> {
    Schedule::of(text, time_zone).err()
}

fn next(text: &str, time_zone: Option<&str>, since: &str) -> String {
    let schedule = Schedule::of(text, time_zone).unwrap_or_else(|why| panic!("{text}: {why:?}"));
    let next = schedule.around(since.parse().expect("a time")).next;
    next.expect("a moment").to_string()
}

#[test]
fn p6_what_does_not_say_what_the_library_makes_of_it_is_no_schedule() {
    for text in [
        // A list with an empty part.
        ", * * * *",
        "* , * * *",
        "1, * * * *",
        "0 ,2 * * *",
        "0 2 * * ,",
        "0 2 * * +,",
        "0 2 * * +,1",
        // No weekday, or the last of none.
        "0 3 * * +",
        "0 3 1 * +",
        "0 3 * * L",
        "0 3 * * l",
        "0 3 1 * L",
        "0 3 * * +L",
        "0 3 * * 1,L",
        // Not five fields.
        "0 3 1 *",
        "0 0 3 1 * *",
        "0 0 3 1 * * 2030",
        "@daily",
        // Other white space, with which there are six or seven.
        "*\t* * * * *",
        "0 3 1 * *\t2030",
        "0 3 1 *\n*",
        "0\u{a0}0 3 1 * *",
        "0 3 1 * *\n",
        " 0 3 1 * *",
        "0 3 1 * * ",
        "0  3 1 * *",
        "",
        "61 * * * *",
    ] {
        assert_eq!(refused(text, None), Some(Unusable::Unreadable), "{text:?}");
    }
    for text in
        ["0 2,14 * * 1-5", "*/5 * * * *", "0 2 L * *", "0 2 LW * ?", "0 2 * * 5L", "0 2 * * friL", "0 2 1-7 * +MON"]
    {
        assert_eq!(refused(text, None), None, "{text:?}");
    }
    assert_eq!(refused("0 2 * * *", Some("Europe/Nowhere")), Some(Unusable::TimeZone));
}

#[test]
fn p6_a_schedule_that_never_comes_is_refused() {
    for text in [
        "0 3 30 2 *",
        "0 3 31 4,6 *",
        "0 3 31 FEB,APR,JUN,SEP,NOV *",
        "0 3 31W 4 *",
        // Both days, which never fall together.
        "0 3 1 * +1#5",
        "0 3 29 2 +1#4",
        "0 3 1-7 * +5L",
        "* * 30-31 2 +*",
    ] {
        assert_eq!(refused(text, None), Some(Unusable::Never), "{text}");
        assert_eq!(refused(text, Some("Pacific/Apia")), Some(Unusable::Never), "{text}");
    }
    // The hour that summer time leaves out: of several moments of it none comes, a single
    // one comes after it.
    let left_out = "0,30 2 25-31 3 +7";
    assert_eq!(refused(left_out, Some("Europe/Berlin")), Some(Unusable::Never));
    assert_eq!(refused(left_out, None), None);
    let single = next("30 2 25-31 3 +7", Some("Europe/Berlin"), "2026-01-01T00:00:00Z");
    assert_eq!(single, "2026-03-29T01:00:00Z");
}

#[test]
fn what_comes_seldom_comes() {
    let at = "2026-06-03T12:00:00Z";
    for (text, wanted) in [
        // One of the two fields is enough.
        ("0 3 30 2 1", "2027-02-01T03:00:00Z"),
        ("0 3 31 4,6 5L", "2026-06-26T03:00:00Z"),
        ("0 3 29 2 *", "2028-02-29T03:00:00Z"),
        ("0 3 * 2 2#5", "2028-02-29T03:00:00Z"),
        // Both, once in 28 years.
        ("0 3 29 2 +1#5", "2044-02-29T03:00:00Z"),
        ("0 3 29 2 +SUN", "2032-02-29T03:00:00Z"),
    ] {
        assert_eq!(next(text, None, at), wanted, "{text}");
    }
    // 2100 is no leap year.
    assert_eq!(next("0 3 29 2 +1", None, "2072-03-01T00:00:00Z"), "2112-02-29T03:00:00Z");
}

#[test]
fn what_was_found_is_found_again_between_two_moments_and_nowhere_else() {
    let schedule = Schedule::of("0 3 * * *", None).expect("a schedule");
    let around = |text: &str| {
        let found = schedule.around(text.parse().expect("a time"));
        (found.last.expect("a moment").to_string(), found.next.expect("a moment").to_string())
    };
    let day = |day: &str| format!("2026-06-{day}T03:00:00Z");
    let between = (day("03"), day("04"));
    for (at, wanted) in [
        ("2026-06-03T12:00:00Z", &between),
        ("2026-06-03T03:00:00Z", &between),
        ("2026-06-04T02:59:59.9Z", &between),
        ("2026-06-03T02:59:59.9Z", &(day("02"), day("03"))),
        ("2026-06-04T03:00:00Z", &(day("04"), day("05"))),
        ("2026-06-03T12:00:00Z", &between),
    ] {
        assert_eq!(around(at), *wanted, "{at}");
    }
}

/// A day of the week: any of them in a month, one of them, or the last.
#[derive(Clone, Copy, Debug)]
enum Which {
    Any,
    Nth(i8),
    Last,
}

/// The three fields of a day, as sets; one that is empty is `*`.
#[derive(Clone, Debug)]
struct Fields {
    days: Vec<i8>,
    last_day: bool,
    months: Vec<i8>,
    weekdays: Vec<(i8, Which)>,
    both: bool,
}

impl Fields {
    fn text(&self) -> String {
        let list = |parts: Vec<String>| if parts.is_empty() { "*".to_owned() } else { parts.join(",") };
        let days = self.days.iter().map(ToString::to_string).chain(self.last_day.then(|| "L".to_owned()));
        let months = self.months.iter().map(ToString::to_string);
        let weekdays = self.weekdays.iter().map(|(day, which)| match which {
            Which::Any => day.to_string(),
            Which::Nth(which) => format!("{day}#{which}"),
            Which::Last => format!("{day}L"),
        });
        let sign = if self.both && !self.weekdays.is_empty() { "+" } else { "" };
        format!("0 3 {} {} {sign}{}", list(days.collect()), list(months.collect()), list(weekdays.collect()))
    }

    fn hold(&self, date: Date) -> bool {
        let of_weekday = |(day, which): &(i8, Which)| {
            date.weekday().to_sunday_zero_offset() == day % 7
                && match which {
                    Which::Any => true,
                    Which::Nth(which) => (date.day() - 1) / 7 + 1 == *which,
                    Which::Last => date.day() + 7 > date.days_in_month(),
                }
        };
        let by_day = self.days.contains(&date.day()) || self.last_day && date.day() == date.days_in_month();
        let by_weekday = self.weekdays.iter().any(of_weekday);
        let (any_day, any_weekday) = (self.days.is_empty() && !self.last_day, self.weekdays.is_empty());
        (self.months.is_empty() || self.months.contains(&date.month()))
            && match (any_day, any_weekday) {
                (true, true) => true,
                (false, true) => by_day,
                (true, false) => by_weekday,
                (false, false) if self.both => by_day && by_weekday,
                (false, false) => by_day || by_weekday,
            }
    }
}

fn any_days() -> impl Strategy<Value = Fields> {
    let which = prop_oneof![Just(Which::Any), (1..6_i8).prop_map(Which::Nth), Just(Which::Last)];
    (
        // Those that not every month has.
        prop::collection::vec(prop_oneof![1 => 1..32_i8, 3 => 28..32_i8], 0..3),
        prop::bool::weighted(0.1),
        prop::collection::vec(prop_oneof![1 => 1..13_i8, 1 => Just(2_i8)], 0..3),
        prop::collection::vec((0..8_i8, which), 0..3),
        prop::bool::weighted(0.7),
    )
        .prop_map(|(days, last_day, months, weekdays, both)| Fields { days, last_day, months, weekdays, both })
}

/// The calendar comes again after that: 400 years are whole weeks.
fn all_days() -> impl Iterator<Item = Date> {
    iter::successors(Some(date(2000, 1, 1)), |day| day.tomorrow().ok()).take_while(|day| day.year() < 2400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn p6_a_schedule_is_refused_as_never_coming_just_where_no_day_of_the_calendar_is_its_own(days in any_days()) {
        let text = days.text();
        let why = refused(&text, None);
        prop_assert!(why.is_none_or(|why| why == Unusable::Never), "{} is {:?}", text, why);
        prop_assert_eq!(why.is_none(), all_days().any(|day| days.hold(day)), "{}", text);
    }

    #[test]
    fn p6_a_schedule_that_is_taken_comes_within_forty_years(days in any_days(), since in 0..12_000_000_000_i64) {
        let Ok(schedule) = Schedule::of(&days.text(), None) else { return Ok(()) };
        let since = Timestamp::from_second(since).expect("a time");
        let found = schedule.around(since);
        let wait = found.next.map(|next| next.duration_since(since));
        // Forty years with the ten leap days that they have at most.
        let most = SignedDuration::from_hours(24 * (40 * 365 + 10));
        prop_assert!(wait.is_some_and(|wait| wait.is_positive() && wait <= most), "{}: {:?}", days.text(), wait);
    }
}
