//! The chart, installed: its pods are processes of this build.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use botsecret_testbed::{Cluster, ClusterOptions, free_port, wait_for};

use crate::{
    helm::{chart, helm},
    kubectl::Kubectl,
};

/// A cluster to install the chart on.
pub struct Site {
    kubeconfig: String,
    /// What the image is called: a link to this build, with a tag in its name.
    image: String,
    /// Where metrics and probes are served. Nothing else of this machine is there.
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Site {
    pub fn of(cluster: &Cluster) -> Self {
        let build = PathBuf::from(env!("CARGO_BIN_EXE_botsecret"));
        // Beside it, where the sandbox of a pod sees it as well.
        let folder = tempfile::tempdir_in(build.parent().expect("a folder")).expect("a folder");
        let image = folder.path().join("botsecret").display().to_string();
        let kubeconfig = cluster.admin_kubeconfig().expect("a kubeconfig").display().to_string();
        let site = Self { kubeconfig, image, port: free_port().expect("a port"), folder };
        site.tag(env!("CARGO_PKG_VERSION"));
        site
    }

    /// Gives this build the tag of a version.
    fn tag(&self, version: &str) {
        symlink(env!("CARGO_BIN_EXE_botsecret"), self.image_of(version)).expect("a link");
    }

    /// What the image of a version is called.
    pub fn image_of(&self, version: &str) -> String {
        format!("{}:{version}", self.image)
    }

    /// The chart, packed as another version, which has an image as well.
    pub fn chart_of(&self, version: &str) -> PathBuf {
        self.tag(version);
        let (chart, folder) = (chart("botsecret"), self.folder.path());
        let (chart, to) = (chart.to_str().expect("UTF-8"), folder.to_str().expect("UTF-8"));
        let package = ["package", chart, "--version", version, "--app-version", version, "--destination", to];
        let (well, said) = helm(&package);
        assert!(well, "{said}");
        folder.join(format!("botsecret-{version}.tgz"))
    }

    pub fn helm(&self, arguments: &[&str]) -> (bool, String) {
        let cluster = ["--kubeconfig", &self.kubeconfig, "--namespace", "botsecret-system"];
        helm(&[arguments, &cluster].concat())
    }

    /// `install`s this chart or `upgrade`s to it, and waits until it is ready.
    pub fn deploy(&self, verb: &str, chart: &Path, options: &[&str]) {
        let (image, port) = (format!("image.repository={}", self.image), format!("operator.port={}", self.port));
        let chart = chart.to_str().expect("UTF-8");
        let what = [verb, "botsecret", chart, "--create-namespace", "--wait", "--timeout", "120s"];
        let own = ["--set", image.as_str(), "--set", port.as_str()];
        let (well, said) = self.helm(&[&what[..], &own, options].concat());
        assert!(well, "{verb} {options:?}: {said}");
    }

    fn install(&self, settings: &[&str]) {
        let options: Vec<_> = settings.iter().flat_map(|one| ["--set", *one]).collect();
        self.deploy("install", &chart("botsecret"), &options);
    }

    /// Whether `helm test` passes, and what the doctor said.
    pub fn test(&self) -> (bool, String) {
        self.helm(&["test", "botsecret", "--timeout", "150s"])
    }

    pub fn uninstall(&self) {
        let (well, said) = self.helm(&["uninstall", "botsecret", "--wait", "--timeout", "60s"]);
        assert!(well, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_install_it_passes_its_own_test_and_leaves_what_is_yours_when_it_goes() {
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    for namespace in ["trading", "billing"] {
        kubectl.run(&["create", "namespace", namespace], "").await;
    }
    let site = Site::of(&cluster);
    let everything = [
        "operator.namespaces={trading,billing}",
        "operator.maxRollouts=20",
        "operator.storeAddresses={vault.example,*.amazonaws.com,10.1.0.0/16}",
        "rbac.verify=true",
        "rbac.rollBack=true",
        "podDisruptionBudget.enabled=true",
        "admission.authors=true",
    ];
    let nothing = [
        "crds.install=false",
        "networkPolicy.enabled=false",
        "admission.enabled=false",
        "metrics.service.enabled=false",
        "rbac.aggregate=false",
    ];
    // The last one finds the definitions that the others left.
    for settings in [&[][..], &everything, &nothing] {
        site.install(settings);
        let (well, said) = site.test();
        let logs = kubectl.attempt(&["logs", "-n", "botsecret-system", "botsecret-test"], "").await.1;
        assert!(well, "{settings:?}: {said}\n{logs}");
        site.uninstall();
    }
    let left = kubectl.run(&["get", "crds", "-o", "name"], "").await;
    assert_eq!(left.lines().filter(|line| line.contains("botsecret.dev")).count(), 3, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_installation_fails_its_test_and_an_uninstalled_one_keeps_every_secret() {
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    let site = Site::of(&cluster);
    site.install(&["test.wait=3s"]);
    let example = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/quickstart/{name}.yaml"));
        std::fs::read_to_string(path).expect("an example")
    };
    for file in ["1-source", "2-bot", "3-botsecret"] {
        kubectl.run(&["apply", "-f", "-"], &example(file)).await;
    }
    kubectl.run(&["wait", "--for=condition=Ready", "bsec/price-bot", "-n", "trading", "--timeout=60s"], "").await;
    assert!(site.test().0);
    kubectl.run(&["delete", "validatingadmissionpolicybinding", "botsecret-tokens"], "").await;
    let (well, _) = site.test();
    assert!(!well, "a policy that is not in force was not found");
    site.uninstall();
    wait_for("the operator to be gone", Duration::from_mins(1), async || {
        let pods = kubectl
            .run(&["get", "pods", "-n", "botsecret-system", "-l", "app.kubernetes.io/name=botsecret", "-o", "name"], "")
            .await;
        Ok(pods.lines().all(|pod| pod == "pod/botsecret-test").then_some(()))
    })
    .await
    .expect("gone");
    let kept = kubectl.run(&["get", "bsec/price-bot", "secret/price-bot", "-n", "trading", "-o", "name"], "").await;
    assert_eq!(kept.lines().count(), 2, "{kept}");
}
