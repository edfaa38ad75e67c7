//! Cron expressions of windows and schedules.

use croner::{Cron, parser::CronParser};

/// What is written, if it says a time. Lists have no empty parts: croner takes a field of
/// nothing else (`, * * * *`) for one that no minute fits, and searches for it for ever.
pub(crate) fn cron_of(text: &str) -> Option<Cron> {
    let is_whole = text.split_whitespace().all(|field| field.split(',').all(|part| !part.is_empty()));
    CronParser::new().parse(text).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests {
    use super::cron_of;

    #[test]
    fn p6_a_list_with_an_empty_part_is_no_schedule() {
        for text in [", * * * *", "* , * * *", "1, * * * *", "0 ,2 * * *", "0 2 * * ,"] {
            assert!(cron_of(text).is_none(), "{text}");
        }
        for text in ["0 2,14 * * 1-5", "*/5 * * * *", "0 2 L * *"] {
            assert!(cron_of(text).is_some(), "{text}");
        }
    }
}
