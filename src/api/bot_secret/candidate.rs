//! How a new value is tried before anybody reads it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::Timeout;

/// A new value is tried before the Secret that everybody reads is written: the
/// new data goes into the Secret `<target>-candidate`, and a Job made from this
/// CronJob tries it. Only its success lets the new data through.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// A suspended CronJob of this namespace whose pods read the Secret
    /// `<target>-candidate`, run as the BotSecret's ServiceAccount, and exit 0
    /// when the values work.
    #[schemars(length(min = 1, max = 52))]
    pub cron_job: String,
    /// How long the Job may take. 5m when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("write a duration from 1s to 24h, such as 5m"))]
    pub timeout: Option<Timeout>,
}
