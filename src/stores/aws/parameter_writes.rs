//! New values written back to Parameter Store.
//!
//! PutParameter has no precondition, so the version is looked at before and
//! after; and what it is not told it sets back to the account's defaults, so
//! what the parameter is (type, tier, key, pattern) is told as it was.

use aws_sdk_ssm::{
    Client,
    types::{ParameterMetadata, ParameterStringFilter, ParameterTier, ParameterType},
};
use serde::Serialize;

use super::{
    errors::{Doing, refusal},
    http::{unheard, with_body},
    invalid,
    parameter_store::{ParameterStore, Place, left_out},
};
use crate::stores::{
    StoreError, WriteBack,
    writing::{Change, conflict, sealed, sized},
};

const LARGEST_STANDARD: usize = 4096;
const LARGEST_ADVANCED: usize = 8192;
const DESCRIBE: Doing<'_> = Doing::Read { action: "ssm:DescribeParameters" };
const PUT: Doing<'_> = Doing::Write { action: "ssm:PutParameter" };

/// PutParameter's input.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Put<'a> {
    name: &'a str,
    value: &'a str,
    r#type: &'a str,
    overwrite: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_pattern: Option<&'a str>,
}

impl ParameterStore {
    pub(super) async fn write_back(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let change = Change::of(write)?;
        let place = self.place(write.key)?;
        if place.selector.is_some() || place.name.starts_with("arn:") {
            return Err(invalid(
                "a parameter is written by its name alone: leave the version out of the key, and no ARN leads to one \
                 that can be written",
            ));
        }
        let mut found = self.call(place.region, &[&place]).await?;
        let held = found.remove(place.name).unwrap_or_else(|| Err(left_out()))?;
        let new = change.applied(Some(held.bytes.expose()))?;
        // As after a reply that was lost.
        if new == held.bytes {
            return Ok(());
        }
        if write.base.is_some_and(|base| u64::try_from(held.version).is_ok_and(|version| version > base)) {
            return Err(conflict("somebody else gave the parameter a new value since it was read, which stays"));
        }
        let value = std::str::from_utf8(new.expose())
            .map_err(|_| invalid("the new value is no text, and Parameter Store keeps nothing else"))?;
        let client = self.regions.of(place.region);
        let about = self.about(&client, &place).await?;
        let (largest, tier) = match about.tier {
            Some(ParameterTier::Standard) => (LARGEST_STANDARD, "a parameter of the standard tier"),
            _ => (LARGEST_ADVANCED, "Parameter Store"),
        };
        sized(&new, largest, tier)?;
        let kind = about.r#type.as_ref().unwrap_or(&ParameterType::SecureString);
        let key_id = about.key_id.as_deref().filter(|_| *kind == ParameterType::SecureString);
        let put = Put {
            name: place.name,
            value,
            r#type: kind.as_str(),
            overwrite: true,
            key_id: key_id.filter(|id| !id.is_empty()),
            tier: about.tier.as_ref().map(ParameterTier::as_str),
            data_type: about.data_type.as_deref(),
            allowed_pattern: about.allowed_pattern.as_deref().filter(|pattern| !pattern.is_empty()),
        };
        let body = sealed(&put, new.len())?;
        let call = client.put_parameter().name(place.name).value("");
        let failed = |error| self.regions.failed(place.region, refusal(&error, PUT));
        let answer = unheard(call.customize().mutate_request(with_body(body)).send()).await.map_err(failed)?;
        let is_next = held.version.checked_add(1) == Some(answer.version);
        if is_next { Ok(()) } else { Err(covered(held.version, answer.version)) }
    }

    /// What the parameter is.
    async fn about(&self, client: &Client, place: &Place<'_>) -> Result<ParameterMetadata, StoreError> {
        let filter = ParameterStringFilter::builder().key("Name").option("Equals").values(place.name).build();
        let filter = filter.map_err(|_| invalid("the parameter's name cannot be looked for"))?;
        let call = client.describe_parameters().parameter_filters(filter);
        let failed = |error| self.regions.failed(place.region, refusal(&error, DESCRIBE));
        let answer = unheard(call.send()).await.map_err(failed)?;
        let mut all = answer.parameters.unwrap_or_default().into_iter();
        all.find(|about| about.name.as_deref() == Some(place.name)).ok_or_else(left_out)
    }
}

fn covered(read: i64, written: i64) -> StoreError {
    conflict(format!(
        "somebody else wrote the parameter in the same moment: version {written} was made from version {read}, and \
         what came between is no longer the newest"
    ))
}
