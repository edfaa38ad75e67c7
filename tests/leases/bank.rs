//! A bench with a database whose users are leased.

use std::{collections::BTreeSet, time::Duration};

use botsecret::api::{BotSecret, LeaseStatus};
use botsecret_testbed::{
    BaoClient, BaoMark, BaoRequest, FaultProxy, OpenBao, OpenBaoOptions, Postgres, Role, database_role, wait_for,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Bench, DEADLINE, Result, canary};

/// One of each for the whole binary.
pub struct Servers {
    pub bao: OpenBao,
    pub postgres: Postgres,
}

pub async fn servers() -> Result<&'static Servers> {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    let cluster = crate::support::cluster().await?;
    SERVERS
        .get_or_try_init(|| async {
            Ok(Servers {
                bao: OpenBao::start(cluster, OpenBaoOptions { tls: true }).await?,
                postgres: Postgres::start().await?,
            })
        })
        .await
}

/// How long what is issued lives, and who may look after it.
#[derive(Clone, Copy)]
pub struct Terms {
    pub token_ttl: &'static str,
    pub token_max_ttl: &'static str,
    pub lease_ttl: &'static str,
    pub lease_max_ttl: &'static str,
    /// Whether a later login may renew and revoke an earlier one by accessor.
    pub by_accessor: bool,
    /// Whether it may revoke one even where it may not renew it.
    pub revokes: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            token_ttl: "20s",
            token_max_ttl: "1h",
            lease_ttl: "10m",
            lease_max_ttl: "1h",
            by_accessor: true,
            revokes: false,
        }
    }
}

/// A bench's own database engine, role and store `vault`.
pub struct Bank {
    pub servers: &'static Servers,
    pub root: BaoClient,
    pub name: String,
    mark: BaoMark,
}

impl Bank {
    /// A login that may issue and renew, and beyond that only what `more` grants:
    /// not even end itself.
    pub async fn without_default_rights(&self, bench: &Bench, more: &[&str]) -> Result {
        let mut policy = format!(r#"path "{}/*" {{ capabilities = ["read"] }}"#, self.name);
        for path in ["auth/token/renew-self", "sys/leases/renew"].iter().chain(more) {
            policy += &format!(r#"path "{path}" {{ capabilities = ["update"] }}"#);
        }
        self.root.policy(&self.name, &policy).await?;
        let role = json!({
            "bound_service_account_namespaces": [bench.namespace], "bound_service_account_names": ["bot"],
            "audience": "vault", "token_policies": [self.name], "token_no_default_policy": true,
            "token_ttl": "20s", "token_max_ttl": "1h",
        });
        self.root.write(&format!("auth/kubernetes/role/{}", self.name), &role).await?;
        Ok(())
    }

    pub async fn new(bench: &Bench, terms: Terms) -> Result<Self> {
        let servers = servers().await?;
        let (root, name) = (servers.bao.root()?, bench.namespace.clone());
        servers.bao.database(&servers.postgres, &name).await?;
        let mut role = database_role(terms.lease_ttl, terms.lease_max_ttl);
        // By this mark its users are known, those too whose name nobody saw.
        if let Some(statements) = role["creation_statements"].as_array_mut() {
            statements.push(json!(format!("COMMENT ON ROLE \"{{{{name}}}}\" IS '{name}';")));
        }
        root.write(&format!("{name}/roles/bot"), &role).await?;
        let bank = Self { servers, root, name, mark: servers.bao.mark()? };
        bank.login_role(bench, terms).await?;
        bench.apply(bank.store(servers.bao.url(), servers.bao.ca_pem().unwrap())).await?;
        Ok(bank)
    }

    async fn login_role(&self, bench: &Bench, terms: Terms) -> Result {
        let mut policy = format!(r#"path "{}/*" {{ capabilities = ["read", "update"] }}"#, self.name);
        policy += &format!(r#"path "pki-{}/*" {{ capabilities = ["read", "update"] }}"#, self.name);
        for (path, granted) in [("renew", terms.by_accessor), ("revoke", terms.by_accessor || terms.revokes)] {
            if granted {
                policy += &format!(r#"path "auth/token/{path}-accessor" {{ capabilities = ["update"] }}"#);
            }
        }
        self.root.policy(&self.name, &policy).await?;
        let role = json!({
            "bound_service_account_namespaces": [bench.namespace],
            "bound_service_account_names": ["bot"],
            "audience": "vault",
            "token_policies": [self.name],
            "token_ttl": terms.token_ttl,
            "token_max_ttl": terms.token_max_ttl,
        });
        self.root.write(&format!("auth/kubernetes/role/{}", self.name), &role).await?;
        Ok(())
    }

    /// Makes the store log in by `auth/jwt`.
    pub async fn log_in_by_jwt(&self, bench: &Bench, token_ttl: &str) -> Result {
        let (namespaces, accounts, policies) = ([bench.namespace.as_str()], ["bot"], [self.name.as_str()]);
        let role = Role {
            name: &self.name,
            namespaces: &namespaces,
            service_accounts: &accounts,
            policies: &policies,
            audience: "vault",
            ttl: token_ttl,
        };
        self.root.jwt_role(&role).await?;
        let bao = &self.servers.bao;
        let mut store = self.store(bao.url(), bao.ca_pem().unwrap());
        store["spec"]["vault"]["auth"] = json!({ "jwt": { "role": self.name } });
        bench.apply(store).await?;
        Ok(())
    }

    pub fn store(&self, address: &str, ca: &str) -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "vault" },
            "spec": { "vault": {
                "address": address, "caBundle": ca,
                "auth": { "kubernetes": { "role": self.name } },
            } },
        })
    }

    /// Puts a proxy before the server, for this bench alone; answers it, and
    /// the name under which faults are set.
    pub async fn behind_proxy(&self, bench: &Bench) -> Result<(FaultProxy, String)> {
        let proxy = FaultProxy::start().await?;
        let peer = self.servers.bao.url().trim_start_matches("https://").parse()?;
        let front = proxy.front_tls(peer, self.servers.bao.ca_pem().unwrap()).await?.to_string();
        bench.apply(self.store(&format!("https://{front}"), proxy.ca_pem())).await?;
        Ok((proxy, front))
    }

    pub fn bot_secret(&self, name: &str) -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": name },
            "spec": {
                "serviceAccountName": "bot",
                "storeRef": { "name": "vault" },
                "refreshInterval": "1s",
                "dataFrom": [{ "dynamic": { "path": format!("{}/creds/bot", self.name) } }],
            },
        })
    }

    /// The reads that issued a user, or tried to.
    pub fn issues(&self) -> Result<Vec<BaoRequest>> {
        self.asked(&format!("{}/creds/bot", self.name))
    }

    /// What was asked of OpenBao with this path so far.
    pub fn asked(&self, path: &str) -> Result<Vec<BaoRequest>> {
        Ok(self.servers.bao.requests_since(&self.mark)?.into_iter().filter(|request| request.path == path).collect())
    }

    /// How many were issued, each with a login of its own.
    pub fn issued(&self) -> Result<usize> {
        let issues = self.issues()?;
        let accessors: BTreeSet<_> = issues.iter().map(|issue| format!("{:?}", issue.accessor)).collect();
        assert_eq!(accessors.len(), issues.len(), "two credentials hang on one login");
        Ok(issues.len())
    }

    /// The leases that OpenBao has for this engine.
    pub async fn leases(&self) -> Result<Vec<String>> {
        let path = format!("sys/leases/lookup/{}/creds/bot?list=true", self.name);
        let (status, answer) = self.root.request("GET", &path, None).await?;
        if status == 404 {
            return Ok(Vec::new());
        }
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        Ok(keys.into_iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
    }

    /// The users that its roles made and that PostgreSQL still has.
    pub async fn users(&self) -> Result<Vec<String>> {
        let statement = format!(
            "SELECT rolname FROM pg_roles JOIN pg_shdescription ON objoid = pg_roles.oid WHERE description = '{}'",
            self.name
        );
        Ok(self.servers.postgres.sql(&statement).await?.lines().map(str::to_owned).collect())
    }

    /// The accessors of the logins that OpenBao has with this bench's policy.
    pub async fn logins(&self) -> Result<BTreeSet<String>> {
        let (_, answer) = self.root.request("GET", "auth/token/accessors?list=true", None).await?;
        let mut ours = BTreeSet::new();
        for accessor in answer["data"]["keys"].as_array().into_iter().flatten() {
            // One may end while they are looked at.
            let body = json!({ "accessor": accessor });
            let (_, login) = self.root.request("POST", "auth/token/lookup-accessor", Some(&body)).await?;
            let policies = login["data"]["policies"].as_array().cloned().unwrap_or_default();
            if policies.contains(&json!(self.name)) {
                ours.extend(accessor.as_str().map(str::to_owned));
            }
        }
        Ok(ours)
    }

    /// Waits until OpenBao has exactly these logins.
    pub async fn until_logins(&self, wanted: &[&str]) -> Result {
        let wanted: BTreeSet<_> = wanted.iter().map(|accessor| (*accessor).to_owned()).collect();
        wait_for(&format!("the logins to be {wanted:?}"), DEADLINE, async || {
            let logins = self.logins().await?;
            anyhow::ensure!(logins == wanted, "they are {logins:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits for so many leases.
    pub async fn until_leases(&self, count: usize) -> Result {
        wait_for(&format!("{count} leases in OpenBao"), DEADLINE, async || {
            let leases = self.leases().await?;
            anyhow::ensure!(leases.len() == count, "there are {}", leases.len());
            Ok(Some(()))
        })
        .await
    }
}

/// User and password as a bot would find them.
pub async fn credential(bench: &Bench, secret: &str) -> Result<Option<(String, String)>> {
    let user = bench.value(secret, "username").await?;
    let password = bench.value(secret, "password").await?;
    if let Some(password) = &password {
        canary::watch(password.as_bytes());
    }
    Ok(user.zip(password))
}

/// Waits until a Secret holds a user that the database takes, and answers it.
pub async fn until_credential(bench: &Bench, secret: &str) -> Result<(String, String)> {
    let postgres = &servers().await?.postgres;
    wait_for(&format!("{secret} to hold a working user"), DEADLINE, async || {
        let Some((user, password)) = credential(bench, secret).await? else { return Ok(None) };
        Ok(postgres.accepts(&user, &password).await.then_some((user, password)))
    })
    .await
}

/// Waits until it holds another one than before.
pub async fn until_replaced(bench: &Bench, secret: &str, before: &str) -> Result<(String, String)> {
    wait_for(&format!("{secret} to hold another user than {before}"), DEADLINE, async || {
        Ok(credential(bench, secret).await?.filter(|(user, _)| user != before))
    })
    .await
}

pub async fn records(bench: &Bench, name: &str) -> Result<Vec<LeaseStatus>> {
    let object: Option<BotSecret> = bench.bot_secrets().get_opt(name).await?;
    Ok(object.and_then(|object| object.status).map(|status| status.leases).unwrap_or_default())
}

/// Waits until the records of a BotSecret are in exactly these states.
pub async fn until_states(bench: &Bench, name: &str, wanted: &[&str]) -> Result<Vec<LeaseStatus>> {
    wait_for(&format!("the leases of {name} to be {wanted:?}"), DEADLINE, async || {
        let records = records(bench, name).await?;
        let states: Vec<_> = records.iter().map(|record| record.state.as_str()).collect();
        anyhow::ensure!(states == wanted, "they are {states:?}");
        Ok(Some(records))
    })
    .await
}

/// One of the operator's counters.
pub async fn counter(bench: &Bench, name: &str) -> Result<u64> {
    let metrics = bench.operator.metrics().await?;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(&format!("botsecret_{name}_total ")).map(str::to_owned));
    Ok(line.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}

pub async fn delete(bench: &Bench, name: &str, patience: Duration) -> Result {
    bench.bot_secrets().delete(name, &kube::api::DeleteParams::default()).await?;
    wait_for(&format!("BotSecret {name} to be gone"), patience, async || {
        Ok(bench.bot_secrets().get_opt(name).await?.is_none().then_some(()))
    })
    .await
}
