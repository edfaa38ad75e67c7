//! The kubelet stand-in: containers really run, with what the API holds.

mod common;

use std::time::Duration;

use anyhow::{Context, Result};
use botsecret_testbed::{Cluster, ClusterOptions, bot_binary, wait_for};
use common::{Bed, SOON};
use serde_json::json;

#[tokio::test]
async fn a_container_waits_for_its_secret_and_key_and_then_runs_with_the_value() -> Result<()> {
    let bed = Bed::new("secret").await?;
    let variable = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "exchange.key"}}});
    let optional =
        json!({"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": true}}});
    bed.pod("bot", json!({"containers": [{
        "name": "main", "image": "sh", "env": [variable, optional],
        "envFrom": [{"secretRef": {"name": "all"}, "prefix": "ALL_"}, {"configMapRef": {"name": "absent", "optional": true}}],
        "args": ["-c", "echo key=$KEY none=${NONE-unset} all=$ALL_A; env; exec sleep 1000"],
    }, {
        // A shell would drop the odd name.
        "name": "plain", "image": "sleep", "args": ["1000"], "envFrom": [{"secretRef": {"name": "all"}}],
    }]})).await?;
    bed.secret("all", &[("A", "a"), ("odd.name", "x y")]).await?;
    bed.waiting_for("bot", "CreateContainerConfigError", "secret \"s\" not found").await?;
    bed.secret("s", &[("other", "1")]).await?;
    bed.waiting_for("bot", "CreateContainerConfigError", "couldn't find key exchange.key in Secret").await?;
    bed.secret("s", &[("exchange.key", "it's $(HOME)\n\"2\"")]).await?;
    bed.ready("bot").await?;
    let log = bed.log_with("bot", "key=it's $(HOME) \"2\" none=unset all=a").await?;
    assert!(!log.contains("CARGO"), "the test's own environment leaks:\n{log}");
    let plain = bed.processes("bot").into_iter().find(|it| it.container == "plain");
    let environment = plain.context("no process")?.environment()?;
    assert_eq!(environment.get("odd.name").map(String::as_str), Some("x y"));
    assert_eq!(environment.get("KUBERNETES_SERVICE_HOST").map(String::as_str), Some("127.0.0.1"));
    Ok(())
}

#[tokio::test]
async fn mounted_secrets_follow_the_api_and_environments_do_not() -> Result<()> {
    let bed = Bed::new("volume").await?;
    bed.secret("s", &[("revision", "1"), ("old", "x")]).await?;
    let bot = bot_binary()?;
    bed.pod(
        "bot",
        json!({
            "containers": [{
                "name": "main", "image": bot.display().to_string(),
                "args": ["--watch-file", "/var/run/made/up/revision", "--revision-env", "REVISION"],
                "env": [{"name": "REVISION", "valueFrom": {"secretKeyRef": {"name": "s", "key": "revision"}}}],
                "volumeMounts": [
                    {"name": "secret", "mountPath": "/var/run/made/up"},
                    {"name": "secret", "mountPath": "/etc/one-file", "subPath": "revision"},
                    {"name": "scratch", "mountPath": "/scratch"},
                ],
            }],
            "volumes": [{"name": "secret", "secret": {"secretName": "s"}}, {"name": "scratch", "emptyDir": {}}],
        }),
    )
    .await?;
    bed.log_with("bot", r#""source":"file:/var/run/made/up/revision""#).await?;
    bed.log_with("bot", r#""revision":"1""#).await?;
    bed.secret("s", &[("revision", "2")]).await?;
    let log = bed.log_with("bot", r#""revision":"2""#).await?;
    assert_eq!(log.lines().count(), 3, "{log}");
    let process = bed.running("bot").await?;
    assert_eq!(process.environment()?.get("REVISION").map(String::as_str), Some("1"));
    assert_eq!(process.read_file("/etc/one-file")?, b"1");
    assert!(process.read_file("/var/run/made/up/old").is_err());
    assert!(!std::path::Path::new("/var/run/made").exists(), "the machine was changed");
    assert!(!std::path::Path::new("/scratch").exists(), "the machine was changed");
    Ok(())
}

#[tokio::test]
async fn a_missing_volume_secret_keeps_the_pod_from_starting_unless_optional() -> Result<()> {
    let bed = Bed::new("volumes").await?;
    let pod = |optional: bool| {
        json!({
            "containers": [{
                "name": "main", "image": "sh", "args": ["-c", "ls -a /s; touch /s/x || echo refused; exec sleep 1000"],
                "volumeMounts": [{"name": "s", "mountPath": "/s"}],
            }],
            "volumes": [{"name": "s", "secret": {"secretName": "absent", "optional": optional}}],
        })
    };
    bed.pod("must", pod(false)).await?;
    bed.pod("may", pod(true)).await?;
    bed.ready("may").await?;
    bed.log_with("may", "refused").await?;
    bed.waiting_for("must", "ContainerCreating", "secret \"absent\" not found").await?;
    bed.secret("absent", &[("k", "v")]).await?;
    bed.ready("must").await
}

#[tokio::test]
async fn the_default_token_reaches_the_api_server_and_a_projected_one_has_its_audience() -> Result<()> {
    let bed = Bed::new("token").await?;
    let script = "set -e; T=/var/run/secrets/kubernetes.io/serviceaccount; cat $T/namespace; echo; \
        curl --silent --noproxy '*' --cacert $T/ca.crt -H \"Authorization: Bearer $(cat $T/token)\" \
          https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/none/pods; \
        cut -d. -f2 /tokens/vault; exec sleep 1000";
    bed.pod(
        "bot",
        json!({
            "containers": [{
                "name": "main", "image": "sh", "args": ["-c", script],
                "volumeMounts": [{"name": "tokens", "mountPath": "/tokens"}],
            }],
            "volumes": [{"name": "tokens", "projected": {"sources": [
                {"serviceAccountToken": {"path": "vault", "audience": "openbao", "expirationSeconds": 600}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}}],
        }),
    )
    .await?;
    let who = format!("system:serviceaccount:{}:default", bed.namespace);
    bed.log_with("bot", &who).await?;
    // {"aud":["openbao"], … in base64
    bed.log_with("bot", "eyJhdWQiOlsib3BlbmJhbyJd").await?;
    let process = bed.running("bot").await?;
    assert_eq!(process.read_file("/tokens/name")?, b"bot");
    Ok(())
}

#[tokio::test]
async fn readiness_and_liveness_probes_decide() -> Result<()> {
    let bed = Bed::new("probes").await?;
    // Three, and long ones: a busy machine's container may make its file late,
    // and its probes may take a while.
    let probe = |file: &str| {
        json!({
            "exec": {"command": ["test", "-e", file]},
            "periodSeconds": 1, "failureThreshold": 3, "timeoutSeconds": 20,
        })
    };
    bed.pod(
        "bot",
        json!({"containers": [{
        "name": "main", "image": "sh",
        "args": ["-c", "touch /tmp/alive; echo run; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
        "readinessProbe": probe("/shared/ready"),
        "livenessProbe": probe("/tmp/alive"),
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }], "volumes": [{"name": "shared", "hostPath": {"path": bed.folder.path()}}]}),
    )
    .await?;
    bed.log_with("bot", "run").await?;
    let first = bed.running("bot").await?;
    bed.condition("bot", "Ready", "False").await?;
    std::fs::write(bed.folder.path().join("ready"), "")?;
    bed.ready("bot").await?;
    std::fs::remove_file(bed.folder.path().join("ready"))?;
    bed.condition("bot", "Ready", "False").await?;
    // The container's own file system, as a process of this machine sees it.
    std::fs::remove_file(format!("/proc/{}/root/tmp/alive", first.host_pid))?;
    wait_for("the container to be run again", SOON, || async {
        let status = bed.status("bot", "main").await?;
        Ok((status.restart_count == 1 && bed.log("bot")?.matches("run").count() == 2).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_tcp_and_an_http_probe_ask_the_port() -> Result<()> {
    let bed = Bed::new("ports").await?;
    let hole = botsecret_testbed::BlackHole::start().await?;
    let port = hole.address().port();
    // It listens where the node does, not the pods.
    let tcp = json!({"tcpSocket": {"port": "web", "host": "127.0.0.1"}, "periodSeconds": 1});
    let http = json!({"httpGet": {"port": "web", "path": "/", "host": "127.0.0.1"}, "periodSeconds": 1});
    for (name, probe) in [("tcp", tcp), ("http", http)] {
        bed.pod(
            name,
            json!({"containers": [{
                "name": "main", "image": "sleep", "args": ["1000"], "readinessProbe": probe,
                "ports": [{"name": "web", "containerPort": port}],
            }]}),
        )
        .await?;
    }
    bed.ready("tcp").await?;
    // The black hole accepts, and answers no request.
    bed.running("http").await?;
    bed.condition("http", "Ready", "False").await
}

/// Serves its own address to whoever asks, where it is told to listen.
const SERVER: &str = "\
import os, socket
host, port = os.environ['LISTEN'].rsplit(':', 1)
server = socket.create_server((host, int(port)))
answer = os.environ['POD_IP'].encode()
while True:
    peer, _ = server.accept()
    try:
        peer.recv(65536)
        peer.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(answer) + answer)
    except OSError:
        pass
    peer.close()
";

#[tokio::test]
async fn two_pods_serve_one_port_on_every_address_each_at_its_own() -> Result<()> {
    let bed = Bed::new("addresses").await?;
    let port = botsecret_testbed::free_port()?;
    let spec = json!({"containers": [{
        "name": "main", "image": "python3", "args": ["-c", SERVER],
        "env": [
            {"name": "LISTEN", "value": format!("0.0.0.0:{port}")},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"name": "web", "containerPort": port}],
        "readinessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 1},
    }]});
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut addresses = Vec::new();
    for pod in ["one", "two"] {
        bed.pod(pod, spec.clone()).await?;
        bed.ready(pod).await?;
        let address = bed.address(pod).await?;
        assert_eq!(client.get(format!("http://{address}:{port}/")).send().await?.text().await?, address);
        addresses.push(address);
    }
    assert_ne!(addresses[0], addresses[1]);
    assert!(client.get(format!("http://127.0.0.1:{port}/")).send().await.is_err(), "it listens for all pods");
    Ok(())
}

#[tokio::test]
async fn a_failing_container_is_restarted_and_backs_off() -> Result<()> {
    let bed = Bed::new("restart").await?;
    bed.pod("bot", json!({"containers": [{"name": "main", "image": "sh", "args": ["-c", "echo run; exit 3"]}]}))
        .await?;
    bed.waiting_for("bot", "CrashLoopBackOff", "back-off").await?;
    let status = wait_for("two restarts", SOON, || async {
        let status = bed.status("bot", "main").await?;
        Ok((status.restart_count >= 2).then_some(status))
    })
    .await?;
    let last = status.last_state.and_then(|state| state.terminated).context("no last state")?;
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    Ok(())
}

#[tokio::test]
async fn an_image_that_names_no_command_is_an_image_pull_error() -> Result<()> {
    let bed = Bed::new("image").await?;
    bed.pod("bot", json!({"containers": [{"name": "main", "image": "no-such-command"}]})).await?;
    bed.waiting_for("bot", "ErrImagePull", "no-such-command").await
}

#[tokio::test]
async fn init_containers_run_in_order_and_sidecars_beside_the_rest() -> Result<()> {
    let bed = Bed::new("init").await?;
    let shared = json!([{"name": "shared", "mountPath": "/shared"}]);
    let sh =
        |name: &str, script: &str| json!({"name": name, "image": "sh", "args": ["-c", script], "volumeMounts": shared});
    let mut sidecar =
        sh("sidecar", "echo sidecar >> /shared/order; trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({
        "exec": {"command": ["grep", "sidecar", "/shared/order"]},
        "periodSeconds": 1, "failureThreshold": 30, "timeoutSeconds": 20,
    });
    bed.pod(
        "bot",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("one", "echo one >> /shared/order"), sidecar, sh("two", "echo two >> /shared/order")],
            "containers": [sh("main", "cat /shared/order; exit 0")],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        }),
    )
    .await?;
    bed.phase("bot", "Succeeded").await?;
    assert_eq!(bed.log("bot")?, "one\nsidecar\ntwo\n");
    let kubelet = bed.cluster.kubelet()?;
    assert_eq!(kubelet.logs(&bed.namespace, "bot", "sidecar")?, "bye\n");
    Ok(())
}

#[tokio::test]
async fn exit_codes_decide_whether_a_pod_and_a_job_succeed() -> Result<()> {
    let bed = Bed::new("exit").await?;
    for (name, code, phase) in [("good", 0, "Succeeded"), ("bad", 7, "Failed")] {
        let script = format!("exit {code}");
        bed.pod(
            name,
            json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "sh", "args": ["-c", script]}]}),
        )
        .await?;
        bed.phase(name, phase).await?;
        let ended = bed.status(name, "main").await?.state.and_then(|state| state.terminated);
        assert_eq!(ended.map(|ended| ended.exit_code), Some(code));
    }
    bed.job_completes("job", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "true"}]})).await
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_and_then_is_killed() -> Result<()> {
    let bed = Bed::new("grace").await?;
    let pod = |grace: u32, script: &str| {
        json!({"terminationGracePeriodSeconds": grace, "containers": [{
        "name": "main", "image": "sh", "args": ["-c", script],
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /shared/hook"]}}},
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }], "volumes": [{"name": "shared", "hostPath": {"path": bed.folder.path()}}]})
    };
    bed.pod("kind", pod(60, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")).await?;
    bed.pod("stubborn", pod(2, "trap '' TERM; echo up; while :; do sleep 0.05; done")).await?;
    bed.log_with("kind", "up").await?;
    bed.log_with("stubborn", "up").await?;
    let began = std::time::Instant::now();
    bed.delete("kind").await?;
    bed.gone("kind").await?;
    assert!(began.elapsed() < Duration::from_secs(50), "it took {:?}", began.elapsed());
    assert!(bed.log("kind")?.contains("bye"));
    assert!(bed.folder.path().join("hook").exists());
    let began = std::time::Instant::now();
    bed.delete("stubborn").await?;
    bed.gone("stubborn").await?;
    assert!(began.elapsed() > Duration::from_millis(1900), "it took {:?}", began.elapsed());
    assert!(bed.processes("stubborn").is_empty() && bed.processes("kind").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_rollout_replaces_processes_and_waits_for_the_new_ones() -> Result<()> {
    let bed = Bed::new("rollout").await?;
    bed.secret("s", &[("revision", "1")]).await?;
    let bot = bot_binary()?;
    let template = json!({"containers": [{
        "name": "main", "image": bot.display().to_string(), "args": ["--revision-env", "REVISION"],
        "env": [{"name": "REVISION", "valueFrom": {"secretKeyRef": {"name": "s", "key": "revision"}}}],
    }]});
    bed.deployment("bot", 2, template).await?;
    bed.rolled_out("bot", 2).await?;
    let old = bed.processes("bot-");
    assert_eq!(old.len(), 2);
    bed.secret("s", &[("revision", "2")]).await?;
    bed.annotate_template("bot", "now").await?;
    bed.rolled_out("bot", 2).await?;
    let new = wait_for("two processes", SOON, || async {
        let now = bed.processes("bot-");
        Ok((now.len() == 2).then_some(now))
    })
    .await?;
    assert!(new.iter().all(|new| old.iter().all(|old| old.pod_uid != new.pod_uid)));
    for process in &new {
        // A pod is ready before its process has said anything.
        bed.log_with(&process.pod, r#""revision":"2""#).await?;
        assert_eq!(process.environment()?.get("REVISION").map(String::as_str), Some("2"));
    }
    // What the kubelet no longer knows is still to be reaped.
    wait_for("the old processes to be gone", SOON, || async {
        let is_gone = |pid| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        Ok(old.iter().all(|old| is_gone(old.host_pid)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn pods_go_on_while_the_api_server_is_down_and_are_caught_up_with() -> Result<()> {
    let cluster = Box::leak(Box::new(Cluster::start(ClusterOptions::default()).await?));
    let bed = Bed::on(cluster, "down").await?;
    bed.pod(
        "bot",
        json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "sh",
        "args": ["-c", "echo up; while [ ! -e /shared/end ]; do sleep 0.05; done"],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }], "volumes": [{"name": "shared", "hostPath": {"path": bed.folder.path()}}]}),
    )
    .await?;
    bed.log_with("bot", "up").await?;
    cluster.kill_api_server().await?;
    assert_eq!(bed.processes("bot").len(), 1);
    std::fs::write(bed.folder.path().join("end"), "")?;
    wait_for("the process to end", SOON, || async { Ok(bed.processes("bot").is_empty().then_some(())) }).await?;
    cluster.start_api_server().await?;
    bed.phase("bot", "Succeeded").await
}
