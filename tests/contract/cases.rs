//! The cases. Each gives the documented result and error class, and shows no
//! value.

mod content;
mod places;
mod troubles;
mod versions;
mod writes;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::bench::Bench;

/// One line of the contract.
pub struct Case {
    /// As it is called everywhere.
    pub name: &'static str,
    /// Tries it.
    pub run: for<'a> fn(&'a Bench<'a>) -> BoxFuture<'a, Result<()>>,
}

macro_rules! cases {
    ($($name:literal => $module:ident::$function:ident,)*) => {
        /// Every case, in the table's order.
        pub const CASES: &[Case] = &[
            $(Case { name: $name, run: |bench| Box::pin($module::$function(bench)) },)*
        ];
    };
}

cases! {
    "read" => content::read,
    "property" => content::property,
    "nested" => content::nested,
    "literal dotted key" => content::literal_dotted_key,
    "number" => content::number,
    "binary" => content::binary,
    "empty value" => content::empty_value,
    "largest value" => content::largest_value,
    "unicode" => content::unicode,
    "odd names" => content::odd_names,
    "pinned version" => versions::pinned,
    "alias or stage" => versions::alias,
    "rotation" => versions::rotation,
    "stale read after rotation" => versions::stale,
    "missing" => versions::missing,
    "vanished" => versions::vanished,
    "soft-deleted" => versions::soft_deleted,
    "disabled version" => versions::disabled,
    "denied" => places::denied,
    "missing mount or vault" => places::missing_place,
    "unauthenticated" => places::unauthenticated,
    "token expired in mid-flight" => places::login_ended,
    "throttled with Retry-After" => troubles::throttled_with_time,
    "throttled without Retry-After" => troubles::throttled,
    "5xx" => troubles::broken,
    "slow" => troubles::slow,
    "connection reset" => troubles::reset,
    "truncated body" => troubles::truncated,
    "endless body" => troubles::endless,
    "wrong TLS" => places::wrong_tls,
    "wrong endpoint" => places::wrong_endpoint,
    "batch of 100 with 3 missing" => content::batch,
    "age at the source" => writes::age,
    "write back" => writes::write_back,
    "write back that was overtaken" => writes::overtaken,
}
