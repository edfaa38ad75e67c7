//! `botsecret doctor`: what is wrong with an installation, or would be, and what to
//! do about it.
//!
//! [`facts`] asks the cluster, [`examine`] decides, [`shown`] prints.

mod asking;
mod facts;
mod findings;
#[cfg(test)]
mod findings_tests;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod schema;
mod show;

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use kube::Client;
use tokio::time::Instant;

use self::{
    asking::Cluster,
    facts::{Where, facts},
    findings::{CHECKS, Finding, Stage, State, examine},
    show::shown,
};
use super::{Error, OutputFormat, cluster::cluster, parse_patience, print};

/// How long `--wait` lies between two looks.
const AGAIN: Duration = Duration::from_secs(2);

/// What `botsecret doctor` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is wrong, 1 something is, or the cluster cannot be asked, 2 wrong usage. Each line is explained in docs/doctor.md."
)]
pub struct DoctorArguments {
    /// Look only at what an installation needs, before there is one
    #[arg(long)]
    pre: bool,

    /// The operator's namespace
    #[arg(long, short, env = "POD_NAMESPACE", value_name = "NAME", default_value = "botsecret-system")]
    namespace: String,

    /// What the installation is called: the operator's Deployment, Lease and policies
    #[arg(long, value_name = "NAME", default_value = "botsecret")]
    name: String,

    /// Look again and again for so long, as 90s or 5m, until nothing is wrong
    #[arg(long, value_name = "DURATION", value_parser = parse_patience)]
    wait: Option<Duration>,

    /// Leave these checks out
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',', value_parser = PossibleValuesParser::new(CHECKS))]
    skip: Vec<String>,

    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    output: OutputFormat,

    /// A kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context to use from the kubeconfig file
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

pub(super) fn run(arguments: DoctorArguments) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(look(arguments))
}

async fn look(arguments: DoctorArguments) -> Result<(), Error> {
    // For the process: what brings no provider of its own uses this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = cluster(arguments.kubeconfig, arguments.context).await?;
    // Somebody waits: what does not answer is said at once.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = Client::try_from(config)
        .map_err(|error| format!("the Kubernetes client could not be made: check the kubeconfig ({error})"))?;
    let stage = if arguments.pre { Stage::Before } else { Stage::Live };
    let place = Where { namespace: &arguments.namespace, name: &arguments.name };
    let until = arguments.wait.map(|patience| Instant::now() + patience);
    let found = loop {
        let cluster = Cluster::new(client.clone(), until);
        let mut found = examine(&facts(&cluster, place, stage).await, stage);
        found.retain(|finding| !arguments.skip.iter().any(|check| check == finding.check));
        let wrong = found.iter().any(|finding| finding.state == State::Wrong);
        if !wrong || until.is_none_or(|until| Instant::now() + AGAIN > until) {
            break found;
        }
        tokio::time::sleep(AGAIN).await;
    };
    print(&shown(&found, arguments.output, std::io::stdout().is_terminal())?)?;
    failure(&found)
}

fn failure(found: &[Finding]) -> Result<(), Error> {
    match found.iter().filter(|finding| finding.state == State::Wrong).count() {
        0 => Ok(()),
        1 => Err("1 thing is wrong".into()),
        count => Err(format!("{count} things are wrong").into()),
    }
}
