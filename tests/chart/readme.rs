//! What a new user does from `README.md` alone, on an empty cluster: the page's own
//! commands, run in a copy of the checkout.

use std::{
    env, fs, iter,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use botsecret_testbed::{Cluster, ClusterOptions, RunningContainer, peers};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::Api;
use tempfile::TempDir;
use tokio::{process::Command, sync::Mutex, time::timeout};

use crate::kubectl::Kubectl;

/// What the page calls the image in the reader's registry.
const IMAGE: &str = "registry.example/botsecret";
/// Lines of a terminal.
const SCREEN: usize = 24;
/// Longer than the page's own commands wait.
const PATIENCE: Duration = Duration::from_mins(8);

/// A control plane each: beside each other they would only be slower.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The block of commands behind a mark.
fn commands(name: &str) -> String {
    let page = fs::read_to_string(root().join("README.md")).expect("the page");
    let mark = format!("<!-- run: {name} -->\n```sh\n");
    let mut blocks = page.split(&mark).skip(1);
    let block = blocks.next().unwrap_or_else(|| panic!("README.md has no block behind {mark}"));
    assert!(blocks.next().is_none(), "README.md has several {mark}");
    block.split_once("```\n").expect("its end").0.to_owned()
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("a copy");
        return;
    }
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

/// A reader, who has the checkout, kubectl and Helm, and the image in a registry: to the
/// nodes here an image is a program of this machine, so it is a link to this build.
struct Reader {
    checkout: TempDir,
    image: String,
    kubeconfig: PathBuf,
    _images: TempDir,
}

impl Reader {
    fn of(cluster: &Cluster) -> Self {
        let build = PathBuf::from(env!("CARGO_BIN_EXE_botsecret"));
        // Beside it, where the sandbox of a pod sees it as well.
        let images = tempfile::tempdir_in(build.parent().expect("a folder")).expect("a folder");
        let image = images.path().join("botsecret").display().to_string();
        symlink(&build, format!("{image}:{}", env!("CARGO_PKG_VERSION"))).expect("a link");
        let checkout = tempfile::tempdir().expect("a folder");
        for folder in ["charts", "deploy", "examples"] {
            copy(&root().join(folder), &checkout.path().join(folder));
        }
        let kubeconfig = cluster.admin_kubeconfig().expect("a kubeconfig");
        Self { checkout, image, kubeconfig, _images: images }
    }

    /// Runs a block as it stands on the page, but for the registry's name.
    async fn run(&self, kubectl: &Kubectl, name: &str) {
        let script = commands(name).replace(IMAGE, &self.image);
        let machine = env::var_os("PATH").unwrap_or_default();
        let tools = peers::folder().expect("the tools").to_path_buf();
        let path = env::join_paths(iter::once(tools).chain(env::split_paths(&machine))).expect("a PATH");
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(self.checkout.path())
            .env("PATH", path)
            .env("KUBECONFIG", &self.kubeconfig)
            // Where both keep what they know of clusters: of others it is no guide.
            .env("HOME", self.checkout.path())
            .env("HELM_NO_PLUGINS", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = timeout(PATIENCE, shell.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("{name} does not end")).expect("bash starts");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            let pods = kubectl.attempt(&["describe", "pods,botsecrets", "--all-namespaces"], "").await.1;
            panic!("{name}:\n{script}\n{said}\n{pods}");
        }
    }
}

/// What is there for the bot.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// The value in its Secret.
    key: String,
    /// The revision that each of its processes was started with.
    holds: Vec<String>,
    /// How many of its processes there ever were.
    started: usize,
    /// How often the Deployment's template changed.
    template: String,
}

impl Seen {
    fn of(key: &str, revision: &str, started: usize) -> Self {
        let revision = revision.to_owned();
        Self { key: key.to_owned(), holds: vec![revision.clone()], started, template: revision }
    }

    async fn now(cluster: &Cluster) -> Self {
        let client = cluster.client().expect("a client");
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "trading");
        let data = secrets.get("price-bot").await.expect("the Secret").data.expect("data");
        let deployments: Api<Deployment> = Api::namespaced(client, "trading");
        let bot = deployments.get("price-bot").await.expect("the Deployment");
        let annotations = bot.metadata.annotations.expect("annotations");
        let kubelet = cluster.kubelet().expect("a node");
        let is_bot = |one: &RunningContainer| one.namespace == "trading" && one.pod.starts_with("price-bot-");
        let running = kubelet.processes().into_iter().filter(is_bot);
        Self {
            key: String::from_utf8(data["EXCHANGE_KEY"].0.clone()).expect("text"),
            holds: running.map(|one| one.environment().expect("it lives")["REVISION"].clone()).collect(),
            started: kubelet.history().into_iter().filter(is_bot).count(),
            template: annotations["deployment.kubernetes.io/revision"].clone(),
        }
    }
}

async fn a_new_user_gets_there_by(way: &str) {
    let lines: usize = [way, "first", "rotate"].iter().map(|name| commands(name).lines().count()).sum();
    assert!(lines <= SCREEN, "{lines} lines are more than one screen");
    let _turn = ONE_AT_A_TIME.lock().await;
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    let reader = Reader::of(&cluster);
    reader.run(&kubectl, way).await;
    reader.run(&kubectl, "first").await;
    assert_eq!(Seen::now(&cluster).await, Seen::of("change-me", "1", 1));
    reader.run(&kubectl, "rotate").await;
    assert_eq!(Seen::now(&cluster).await, Seen::of("a-new-one", "2", 2), "rolled once");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_helm_the_page_brings_a_first_secret_and_a_rotation_that_rolls_once() {
    a_new_user_gets_there_by("helm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_one_file_the_page_brings_a_first_secret_and_a_rotation_that_rolls_once() {
    a_new_user_gets_there_by("kubectl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_kustomize_the_page_brings_a_first_secret_and_a_rotation_that_rolls_once() {
    a_new_user_gets_there_by("kustomize").await;
}
