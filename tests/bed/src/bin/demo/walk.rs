//! The walk itself: what is said, what is done, and how it is checked.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use botsecret_testbed::wait_for;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};

use super::arguments::{Arguments, Store};
use super::bot::{Bot, Run};
use super::manifests::{self, INSTALL};
use super::operator::{Operator, USER};
use super::place::Place;
use super::source::Source;
use super::tell::Teller;

const STEPS: usize = 7;
/// How long a step may take: an image may have to be pulled.
const PATIENCE: Duration = Duration::from_secs(180);
/// For how long nothing may change before the last step begins.
const SETTLED: Duration = Duration::from_secs(2);
const NAME: &str = "price-bot";

/// The first step's title: the place is found by [`Place::find`].
pub fn announce_place(teller: &Teller) {
    teller.step(1, STEPS, "A cluster");
}

/// All other steps.
pub async fn walk(teller: &Teller, arguments: &Arguments, place: &mut Place) -> Result<()> {
    let source = Source::of(place, arguments.store)?;

    teller.step(2, STEPS, "BotSecret, with the least it needs");
    install(teller, arguments, place, &source).await?;

    teller.step(3, STEPS, "A value at its source");
    source.prepare(teller, place).await?;

    teller.step(4, STEPS, "A bot that cannot start: its Secret is not there");
    place.will_make_namespace(source.namespace);
    place.kubectl.apply(source.bot.file, &source.bot.text).await?;
    let walk = Walk { teller, place, source: &source };
    walk.bot_cannot_start().await?;

    teller.step(5, STEPS, "The BotSecret is applied");
    place.kubectl.apply(source.bot_secret.file, &source.bot_secret.text).await?;
    let first = walk.bot_starts().await?;

    teller.step(6, STEPS, "The value rotates at its source");
    walk.value_rotates(&first).await?;

    teller.step(7, STEPS, "A refresh that finds nothing new");
    walk.refresh_touches_nothing().await
}

async fn install(teller: &Teller, arguments: &Arguments, place: &mut Place, source: &Source) -> Result<()> {
    place.will_install();
    let words: Vec<_> = INSTALL.iter().map(|file| format!("-f {file}")).collect();
    teller.command(&format!("kubectl apply {}", words.join(" ")));
    let manifest = manifests::read_all(&INSTALL)?;
    let applied = place.kubectl.run(&["apply", "-f", "-"], Some(&manifest));
    teller.quote(&teller.wait("the API server is taking the definitions, the role and the policies", applied).await?);
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd/botsecrets.botsecret.dev",
        "crd/botsecretstores.botsecret.dev",
        "--timeout=60s",
    ];
    teller.wait("the definitions are being established", place.kubectl.run(&wait, None)).await?;
    let (folder, namespaces) = (place.folder(), [source.namespace]);
    let starting = Operator::start(&arguments.operator, &place.kubectl, &folder, &namespaces);
    let operator = teller.wait("the operator is starting", starting).await?;
    teller.done(&format!("the operator runs as process {}, as {USER}, with that role and no other", operator.pid()));
    teller.say("What it does, from another terminal:");
    teller.command(&format!("tail -f {}", operator.log().display()));
    place.operator = Some(operator);
    Ok(())
}

/// The steps that need the place and change nothing in it.
struct Walk<'a> {
    teller: &'a Teller,
    place: &'a Place,
    source: &'a Source,
}

impl Walk<'_> {
    fn bot(&self) -> Bot<'_> {
        Bot {
            client: self.place.client.clone(),
            namespace: self.source.namespace,
            cluster: self.place.cluster.as_ref(),
        }
    }

    async fn bot_cannot_start(&self) -> Result<()> {
        let bot = self.bot();
        self.until("the kubelet tries to start the bot", async || {
            Ok(bot.waits_because().await?.filter(|reason| reason == "CreateContainerConfigError").map(drop))
        })
        .await?;
        self.show(&["get", "pods"]).await?;
        self.teller.done("the bot waits: CreateContainerConfigError");
        Ok(())
    }

    async fn bot_starts(&self) -> Result<Run> {
        let began = Instant::now();
        self.until_condition("Ready").await?;
        let seconds = began.elapsed().as_secs_f64();
        self.show(&["get", "botsecret,secret", NAME]).await?;
        ensure!(self.revision_of_secret().await? == "1", "the Secret does not hold revision 1");
        self.teller.done(&format!("the Secret is there, {seconds:.1} s later, with the values whole"));
        let bot = self.bot();
        let run = self.until("the bot starts, now that it can", async || bot.run_on("1").await).await?;
        self.teller.done(&format!("the bot is {} and prints: running on revision 1", run.name()));
        Ok(run)
    }

    async fn value_rotates(&self, first: &Run) -> Result<()> {
        let bot = self.bot();
        let before = self.rollouts().await?;
        let began = Instant::now();
        self.source.rotate(self.teller, self.place).await?;
        let what = "the operator reads the value at its next refresh and rolls the Deployment";
        let run = self.until(what, async || bot.run_on("2").await).await?;
        ensure!(run.pod_uid != first.pod_uid, "the old pod holds the new value, which cannot be");
        self.teller.done(&format!(
            "{:.1} s later the bot is {} and prints: running on revision 2",
            began.elapsed().as_secs_f64(),
            run.name()
        ));
        self.until("the old one ends", async || Ok(first.is_gone(&bot).await?.then_some(()))).await?;
        self.teller.done(&format!("{} is gone", first.name()));
        self.until_condition("RolledOut").await?;
        ensure!(self.is_rolled_out().await?, "RolledOut speaks of another revision");
        let rollouts = self.rollouts().await? - before;
        ensure!(rollouts == 1, "there were {rollouts} rollouts for one rotation");
        self.teller.done("the Deployment was rolled once, and RolledOut says that no pod holds the old value");
        let object = format!("botsecret/{NAME}");
        let verified = ["wait", "--for=jsonpath={.status.rotation.phase}=Verified", "--timeout=60s", &object];
        self.teller.wait("the new process stays well for ten seconds", self.show(&verified)).await?;
        self.teller.done("it stayed well on the new value: others, had there been any, would follow now");
        self.show(&["events", "--for", &format!("botsecret/{NAME}")]).await
    }

    async fn refresh_touches_nothing(&self) -> Result<()> {
        let versions = self.until_settled().await?;
        let operator = self.place.operator.as_ref().context("the operator does not run")?;
        let mark = match &self.place.cluster {
            Some(cluster) => Some((cluster, cluster.audit().mark().await?)),
            None => None,
        };
        let (began, reads) = (Instant::now(), operator.reads().await?);
        self.until("the operator reads the value again", async || Ok((operator.reads().await? > reads).then_some(())))
            .await?;
        // Whatever it would do about it, it would do at once.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let read = operator.reads().await? - reads;
        let after = self.versions().await?;
        ensure!(after == versions, "something was touched: {versions:?} became {after:?}");
        let seconds = began.elapsed().as_secs_f64();
        self.teller
            .done(&format!("in {seconds:.0} s the manager was read {read} time(s), and nothing had changed there"));
        let list: Vec<_> = after.iter().map(|(kind, version)| format!("{kind} {version}")).collect();
        self.teller.done(&format!("every resourceVersion is the same: {}", list.join(", ")));
        if let Some((cluster, mark)) = mark {
            let asked = cluster.audit().requests_by_since(USER, &mark).await?;
            let asked: Vec<_> =
                asked.iter().filter(|record| record.verb != "watch" && record.subresource != "token").collect();
            if let Some(one) = asked.first() {
                bail!("the operator asked the API server: {} {}", one.verb, one.uri);
            }
            self.teller.done("the API server's audit log has no request by the operator in that time");
        }
        Ok(())
    }

    async fn show(&self, words: &[&str]) -> Result<()> {
        let words = [&["-n", self.source.namespace], words].concat();
        self.place.kubectl.show(&words).await.map(drop)
    }

    async fn until<T, F>(&self, what: &str, condition: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        self.teller.wait(what, wait_for(what, PATIENCE, condition)).await
    }

    async fn until_condition(&self, wanted: &str) -> Result<()> {
        let condition = format!("--for=condition={wanted}");
        let object = format!("botsecret/{NAME}");
        let words = ["-n", self.source.namespace, "wait", &condition, "--timeout=180s", &object];
        let what = format!("the BotSecret becomes {wanted}");
        match self.teller.wait(&what, self.place.kubectl.show(&words)).await {
            Ok(_) => Ok(()),
            // kubectl does not say why.
            Err(error) => Err(error.context(self.complaint(wanted).await.unwrap_or_default())),
        }
    }

    /// What the BotSecret itself says of a condition.
    async fn complaint(&self, type_: &str) -> Result<String> {
        let status = self.bot_secrets().get(NAME).await?.data["status"].take();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == type_);
        Ok(found.and_then(|condition| condition["message"].as_str()).unwrap_or("it says nothing").to_owned())
    }

    /// Whether the status speaks of the rollout of the Secret as it is now.
    async fn is_rolled_out(&self) -> Result<bool> {
        let status = self.bot_secrets().get(NAME).await?.data["status"].take();
        Ok(status["rollout"]["complete"] == true && status["rollout"]["revision"] == status["target"]["revision"])
    }

    fn bot_secrets(&self) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("botsecret.dev", "v1alpha1", "BotSecret"));
        Api::namespaced_with(self.place.client.clone(), self.source.namespace, &resource)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.place.client.clone(), self.source.namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.place.client.clone(), self.source.namespace)
    }

    async fn revision_of_secret(&self) -> Result<String> {
        let data = self.secrets().get(NAME).await?.data.unwrap_or_default();
        ensure!(data.contains_key("EXCHANGE_KEY"), "the Secret lacks EXCHANGE_KEY");
        let revision = data.get("REVISION").context("the Secret lacks REVISION")?;
        Ok(String::from_utf8_lossy(&revision.0).into_owned())
    }

    /// The Deployment controller's own count of rollouts.
    async fn rollouts(&self) -> Result<i64> {
        let deployment = self.deployments().get(NAME).await?;
        let count = deployment.annotations().get("deployment.kubernetes.io/revision");
        count.context("the Deployment has no revision")?.parse().context("the revision is no number")
    }

    async fn versions(&self) -> Result<[(&'static str, String); 3]> {
        let version = |version: Option<String>| version.context("an object without resourceVersion");
        Ok([
            ("BotSecret", version(self.bot_secrets().get(NAME).await?.resource_version())?),
            ("Secret", version(self.secrets().get_metadata(NAME).await?.resource_version())?),
            ("Deployment", version(self.deployments().get_metadata(NAME).await?.resource_version())?),
        ])
    }

    /// Waits until the rollout's last echoes are over: other controllers write
    /// too.
    async fn until_settled(&self) -> Result<[(&'static str, String); 3]> {
        let last = RefCell::new((self.versions().await?, Instant::now()));
        self.until("the Deployment controller finishes its bookkeeping", async || {
            let now = self.versions().await?;
            let mut last = last.borrow_mut();
            if now != last.0 {
                *last = (now, Instant::now());
            }
            Ok((last.1.elapsed() >= SETTLED).then(|| last.0.clone()))
        })
        .await
    }
}

/// Where to go from here.
pub fn what_next(teller: &Teller, arguments: &Arguments) {
    teller.line("\nWhat to try next:");
    if arguments.store == Store::Kubernetes && arguments.context.is_none() {
        teller.line("  make demo STORE=vault          the same, with the values in OpenBao");
    }
    if arguments.context.is_none() && arguments.store == Store::Kubernetes {
        teller.line("  make demo DEMO_CONTEXT=name    the same, on a cluster of your kubeconfig");
    }
    teller.line("  examples/quickstart            what was applied here, to change");
    teller.line("  README.md                      five minutes on your own cluster");
    teller.line("  make test                      everything that is promised, tested against real programs");
}
