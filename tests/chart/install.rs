//! The chart, installed: its pods are processes of this build.

use std::{os::unix::fs::symlink, path::PathBuf, time::Duration};

use botsecret_testbed::{Cluster, ClusterOptions, free_port, wait_for};

use crate::{
    helm::{chart, helm},
    kubectl::Kubectl,
};

struct Site {
    kubeconfig: String,
    /// What the image is called: a link to this build, with a tag in its name.
    image: String,
    _folder: tempfile::TempDir,
}

impl Site {
    fn of(cluster: &Cluster) -> Self {
        let build = PathBuf::from(env!("CARGO_BIN_EXE_botsecret"));
        // Beside it, where the sandbox of a pod sees it as well.
        let folder = tempfile::tempdir_in(build.parent().expect("a folder")).expect("a folder");
        let image = folder.path().join("botsecret");
        let tagged = format!("{}:{}", image.display(), env!("CARGO_PKG_VERSION"));
        symlink(&build, tagged).expect("a link");
        let kubeconfig = cluster.admin_kubeconfig().expect("a kubeconfig").display().to_string();
        Self { kubeconfig, image: image.display().to_string(), _folder: folder }
    }

    fn helm(&self, arguments: &[&str]) -> (bool, String) {
        let cluster = ["--kubeconfig", &self.kubeconfig, "--namespace", "botsecret-system"];
        helm(&[arguments, &cluster].concat())
    }

    fn install(&self, settings: &[&str]) {
        let port = free_port().expect("a port");
        let (image, port) = (format!("image.repository={}", self.image), format!("operator.port={port}"));
        // One that nothing else of this machine has.
        let own = [image.as_str(), &port];
        let all: Vec<_> = own.iter().copied().chain(settings.iter().copied()).flat_map(|one| ["--set", one]).collect();
        let chart = chart("botsecret");
        let install = [
            "install",
            "botsecret",
            chart.to_str().expect("UTF-8"),
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
        ];
        let (well, said) = self.helm(&[&install[..], &all].concat());
        assert!(well, "{settings:?}: {said}");
    }

    /// Whether `helm test` passes, and what the doctor said.
    fn test(&self) -> (bool, String) {
        self.helm(&["test", "botsecret", "--timeout", "150s"])
    }

    fn uninstall(&self) {
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
