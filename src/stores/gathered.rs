//! What one search has come to over its pages, within bounds.
//!
//! The lists are somebody else's: an account with a hundred thousand secrets,
//! or a pager that never ends, must cost a clear error and not the memory.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{ErrorClass, HttpClients, StoreError, locked};

/// Names that one search may find. A Secret of 1 MiB holds fewer keys.
const MOST_NAMES: usize = 10_000;
/// Bytes of all these names.
const MOST_BYTES: usize = 4 << 20;
const NARROW: &str = "narrow it by find.path, find.name or find.tags, or name the remote secrets one by one";

tokio::task_local! {
    static PROGRESS: Progress;
}

/// How far a search has come: one that is cut off in the midst of its pages
/// says that the list is long, and nothing about the manager's health.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    read: usize,
    /// When the last one was, and what a request was given then.
    last: Option<(Instant, Duration)>,
}

impl Progress {
    /// Watches a search.
    pub(crate) fn of<T>(&self, search: impl Future<Output = T>) -> impl Future<Output = T> {
        PROGRESS.scope(self.clone(), search)
    }

    /// What the end of that search means.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        let Pages { read, last } = &*locked(&self.0);
        match last {
            // A manager that fell silent is down, whatever it said before.
            Some((last, limit)) if error.class == ErrorClass::Timeout && *read > 1 && last.elapsed() < *limit / 2 => {
                too_large(format!(
                    "the list is too long to look through within {limit:?} ({read} pages were read): {NARROW}, or raise \
                     limits.timeout of the store"
                ))
            }
            _ => error,
        }
    }

    fn page() {
        // Nobody watches in tests of a backend alone.
        let _ = PROGRESS.try_with(|progress| {
            let mut pages = locked(&progress.0);
            pages.read += 1;
            pages.last = HttpClients::send_limit().map(|limit| (Instant::now(), limit));
        });
    }
}

/// The names that one search has found so far.
pub(super) struct Gathered {
    names: BTreeSet<String>,
    bytes: usize,
    pages: usize,
    most_pages: usize,
}

impl Gathered {
    /// Of a list of so many pages at most.
    pub(super) fn within(most_pages: usize) -> Self {
        Self { names: BTreeSet::new(), bytes: 0, pages: 0, most_pages }
    }

    /// One more name; twice the same is one.
    pub(super) fn add(&mut self, name: &str) -> Result<(), StoreError> {
        if self.names.contains(name) {
            return Ok(());
        }
        if self.names.len() == MOST_NAMES {
            return Err(too_large(format!("the search finds more than {MOST_NAMES} names: {NARROW}")));
        }
        self.bytes += name.len();
        if self.bytes > MOST_BYTES {
            return Err(too_large(format!(
                "the names that the search finds take more than {MOST_BYTES} bytes: {NARROW}"
            )));
        }
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// Ends a page, which was asked for by `asked`: what to ask for the next
    /// one by, if there is one.
    pub(super) fn turn(&mut self, asked: Option<&str>, next: Option<String>) -> Result<Option<String>, StoreError> {
        self.pages += 1;
        Progress::page();
        let most = self.most_pages;
        let Some(next) = next.filter(|next| !next.is_empty()) else { return Ok(None) };
        if asked == Some(next.as_str()) {
            return Err(StoreError::new(
                ErrorClass::Invalid,
                format!(
                    "the list names page {} as its own next one and would never end (at most {most} pages are read): \
                     check the store's endpoint and proxy",
                    self.pages
                ),
            ));
        }
        if self.pages >= most {
            return Err(too_large(format!("the list to look through has more than {most} pages: {NARROW}")));
        }
        Ok(Some(next))
    }

    /// All of them, in their order.
    pub(super) fn into_names(self) -> Vec<String> {
        self.names.into_iter().collect()
    }
}

fn too_large(message: String) -> StoreError {
    StoreError::new(ErrorClass::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{Gathered, MOST_BYTES, MOST_NAMES, Progress};
    use crate::stores::{ErrorClass, HttpClients, StoreError};

    /// What a timeout means after so many pages and so much silence.
    async fn cut_off(pages: usize, silence: Duration) -> ErrorClass {
        let progress = Progress::default();
        let search = async {
            let mut gathered = Gathered::within(100);
            for page in 0..pages {
                gathered.turn(None, Some(page.to_string())).expect("one more");
            }
        };
        progress.of(HttpClients::each_within(Duration::from_secs(10), search)).await;
        advance(silence).await;
        progress.explain(StoreError::new(ErrorClass::Timeout, "late")).class
    }

    #[tokio::test(start_paused = true)]
    async fn p6_a_search_that_is_cut_off_among_its_pages_is_too_long_and_no_outage() {
        let moment = Duration::from_secs(1);
        assert_eq!(cut_off(2, moment).await, ErrorClass::TooLarge);
        assert_eq!(cut_off(99, Duration::from_secs(4)).await, ErrorClass::TooLarge);
        assert_eq!(cut_off(2, Duration::from_secs(5)).await, ErrorClass::Timeout, "it fell silent");
        assert_eq!(cut_off(1, moment).await, ErrorClass::Timeout, "a slow manager");
        assert_eq!(cut_off(0, moment).await, ErrorClass::Timeout);
        let progress = Progress::default();
        let other = StoreError::new(ErrorClass::Unavailable, "down");
        assert_eq!(progress.explain(other.clone()), other);
    }

    #[test]
    fn names_come_in_their_order_and_once() {
        let mut gathered = Gathered::within(1);
        for name in ["b", "a", "b"] {
            gathered.add(name).expect("few");
        }
        assert_eq!(gathered.into_names(), ["a", "b"]);
    }

    #[test]
    fn p6_a_search_ends_at_its_bounds_of_names_and_bytes_and_says_which() {
        let mut many = Gathered::within(1);
        for number in 0..MOST_NAMES {
            many.add(&number.to_string()).expect("within the bound");
        }
        many.add("0").expect("known already");
        let error = many.add("one more").expect_err("too many");
        assert_eq!(error.class, ErrorClass::TooLarge);
        assert!(error.message.contains("10000 names") && error.message.contains("find.path"), "{error}");

        let mut long = Gathered::within(1);
        let name = |number: usize| format!("{number}{}", "x".repeat(MOST_BYTES / 4));
        (0..3).for_each(|number| long.add(&name(number)).expect("within the bound"));
        let error = long.add(&name(3)).expect_err("too long");
        assert_eq!(error.class, ErrorClass::TooLarge);
        assert!(error.message.contains("4194304 bytes"), "{error}");
    }

    #[test]
    fn p6_a_pager_that_goes_on_for_ever_or_in_a_circle_is_left() {
        let mut long = Gathered::within(3);
        assert_eq!(long.turn(None, Some("1".into())), Ok(Some("1".into())));
        assert_eq!(long.turn(Some("1"), Some("2".into())), Ok(Some("2".into())));
        let error = long.turn(Some("2"), Some("3".into())).expect_err("a fourth page");
        assert_eq!(error.class, ErrorClass::TooLarge);
        assert!(error.message.contains("more than 3 pages"), "{error}");

        let mut whole = Gathered::within(3);
        assert_eq!(whole.turn(None, Some("1".into())), Ok(Some("1".into())));
        assert_eq!(whole.turn(Some("1"), Some(String::new())), Ok(None));
        assert_eq!(Gathered::within(1).turn(None, None), Ok(None));

        let mut circle = Gathered::within(100);
        assert_eq!(circle.turn(None, Some("1".into())), Ok(Some("1".into())));
        let error = circle.turn(Some("1"), Some("1".into())).expect_err("the same page");
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.message.contains("page 2") && error.message.contains("at most 100 pages"), "{error}");
    }
}
