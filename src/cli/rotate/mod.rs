//! `botsecret rotate`: asks the operator for a rotation at once.
//!
//! It writes one annotation on the BotSecret, as whoever calls it: the API server
//! refuses those who may not edit that BotSecret.

mod follow;
mod request;

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, error::ErrorKind};
use kube::{Api, Client};
use serde::Serialize;

use self::{follow::follow, request::request};
use super::{Cli, Error, OutputFormat, cluster::cluster, parse_patience, print};
use crate::api::{BotSecret, EmergencyPhase, EmergencyStatus, LONGEST_REASON, RotateRequest};

/// How long `--wait` waits unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

/// What `botsecret rotate` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Who may patch a BotSecret may rotate it. See docs/emergency.md for what --now skips, and what not."
)]
pub struct RotateArguments {
    /// The BotSecret
    #[arg(value_name = "NAME")]
    name: String,

    /// Now, whatever rollout.window and rollout.minInterval say; without it the next refresh does it
    #[arg(long)]
    now: bool,

    /// Why: kept in the BotSecret's status and told by an event, so no place for a secret
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Also revoke the old leased credentials as soon as there are new ones, or none can be had: what uses them fails until it has rolled
    #[arg(long)]
    revoke: bool,

    /// The BotSecret's namespace [default: the context's]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,

    /// Wait until it is done
    #[arg(long)]
    wait: bool,

    /// How long to wait, as 90s or 10m [default: 10m]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = parse_patience)]
    timeout: Option<Duration>,

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

/// What was asked for, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    namespace: String,
    name: String,
    #[serde(flatten)]
    request: RotateRequest,
    /// As `status.emergency` has it at the end of the wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<EmergencyStatus>,
}

pub(super) fn run(arguments: RotateArguments) -> Result<(), Error> {
    let reason = match reason(&arguments) {
        Ok(reason) => reason,
        // Ends the process as any other wrong usage.
        Err(wrong) => wrong_usage(&wrong),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rotate(arguments, reason))
}

fn wrong_usage(wrong: &str) -> ! {
    let mut command = Cli::command();
    command.build();
    let command = match command.find_subcommand_mut("rotate") {
        Some(rotate) => rotate,
        None => &mut command,
    };
    command.error(ErrorKind::ValueValidation, wrong).exit()
}

/// The reason, or what is wrong with what was asked.
fn reason(arguments: &RotateArguments) -> Result<String, String> {
    let name = &arguments.name;
    if !arguments.now {
        return Err(format!(
            "without --now there is nothing to ask for: the next refresh of {name} brings what its manager gives, in \
             its windows. For a rotation at once write: botsecret rotate {name} --now --reason TEXT"
        ));
    }
    let Some(reason) = &arguments.reason else {
        return Err("say why it cannot wait: --reason TEXT".to_owned());
    };
    if reason.chars().any(|c| c.is_control() && c != '\n') {
        return Err("--reason holds control characters: write plain text".to_owned());
    }
    let shown = crate::api::legible(reason);
    if shown.is_empty() {
        return Err("--reason is empty: say why it cannot wait".to_owned());
    }
    if reason.trim().chars().count() > LONGEST_REASON {
        return Err(format!(
            "--reason is longer than {LONGEST_REASON} characters: give the gist, and where the rest is"
        ));
    }
    Ok(shown)
}

async fn rotate(arguments: RotateArguments, reason: String) -> Result<(), Error> {
    // For the process: what brings no provider of its own uses this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = cluster(arguments.kubeconfig, arguments.context).await?;
    // Somebody waits: a refusal is said at once.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let namespace = arguments.namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)
        .map_err(|error| format!("the Kubernetes client could not be made: check the kubeconfig ({error})"))?;
    let api: Api<BotSecret> = Api::namespaced(client.clone(), &namespace);
    let name = arguments.name;
    let request = request(&client, &api, (&namespace, &name), reason, arguments.revoke).await?;
    let mut rotation = Rotation { namespace, name, request, status: None };
    if !arguments.wait {
        return print(&shown(&rotation, arguments.output)?);
    }
    let patience = arguments.timeout.unwrap_or(PATIENCE);
    let ended = follow(&api, &rotation.namespace, &rotation.name, &rotation.request.id, patience).await;
    let (status, failure) = match ended {
        Ok(status) => {
            let failure = failure(&status);
            (Some(status), failure)
        }
        Err(error) => (None, Some(error)),
    };
    rotation.status = status;
    print(&shown(&rotation, arguments.output)?)?;
    failure.map_or(Ok(()), Err)
}

/// Why its end is none that was wished for.
fn failure(status: &EmergencyStatus) -> Option<Error> {
    let is_done = status.phase() == Some(EmergencyPhase::RolledOut) && status.revocation != "LeftToEnd";
    (!is_done).then(|| format!("the rotation ended as {}: {}", status.phase, status.message).into())
}

fn shown(rotation: &Rotation, output: OutputFormat) -> Result<String, Error> {
    let Rotation { namespace, name, request, status } = rotation;
    Ok(match output {
        OutputFormat::Text => match status {
            Some(status) => {
                format!(
                    "rotation {} of BotSecret {namespace}/{name}: {}: {}\n",
                    request.id, status.phase, status.message
                )
            }
            None => format!(
                "rotation {} of BotSecret {namespace}/{name} is asked for; watch it: kubectl get botsecret {name} -n {namespace} -o jsonpath={{.status.emergency}}\n",
                request.id
            ),
        },
        OutputFormat::Json => format!("{}\n", serde_json::to_string_pretty(rotation)?),
        OutputFormat::Yaml => serde_yaml::to_string(rotation)?,
    })
}
