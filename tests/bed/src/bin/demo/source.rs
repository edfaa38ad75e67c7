//! The place that holds the values: a Secret of another namespace, or OpenBao.

use anyhow::{Context, Result, ensure};
use botsecret_testbed::Role;
use serde_json::json;

use super::arguments::Store;
use super::manifests;
use super::place::Place;
use super::tell::Teller;

/// The namespace of the source Secret in `examples/quickstart`.
pub const SOURCE: &str = "vault-of-secrets";

/// What differs between the stores, as the examples have it.
pub struct Source {
    /// The bot's namespace.
    pub namespace: &'static str,
    /// Namespace, ServiceAccount and Deployment of the bot.
    pub bot: Manifest,
    /// The store and the BotSecret.
    pub bot_secret: Manifest,
}

/// A manifest and the name under which a user finds it.
pub struct Manifest {
    pub file: &'static str,
    pub text: String,
}

impl Source {
    /// As the examples for this store have it.
    pub fn of(place: &Place, store: Store) -> Result<Self> {
        match store {
            Store::Kubernetes => Ok(Self {
                namespace: "trading",
                bot: Manifest::of("examples/quickstart/2-bot.yaml")?,
                bot_secret: Manifest::of("examples/quickstart/3-botsecret.yaml")?,
            }),
            Store::Vault => {
                let bao = place.bao.as_ref().context("OpenBao does not run")?;
                let whole = manifests::read("examples/vault/botsecret.yaml")?;
                let wanted = ["BotSecretStore", "BotSecret"];
                let text = manifests::of_kinds(&whole, &wanted, false)
                    .replace("https://vault.example:8200", bao.url())
                    // A minute is long for somebody who watches.
                    .replace("refreshInterval: 1m", "refreshInterval: 5s");
                Ok(Self {
                    namespace: "trading-vault",
                    bot: Manifest {
                        file: "-   # the bot's part of examples/vault/botsecret.yaml",
                        text: manifests::of_kinds(&whole, &wanted, true),
                    },
                    bot_secret: Manifest {
                        file: "-   # the rest of it, with this OpenBao's address and a shorter interval",
                        text,
                    },
                })
            }
        }
    }

    /// Puts the first values there, and the bot's right to read them.
    pub async fn prepare(&self, teller: &Teller, place: &mut Place) -> Result<()> {
        let Some(bao) = &place.bao else {
            place.will_make_namespace(SOURCE);
            let file = "examples/quickstart/1-source.yaml";
            place.kubectl.apply(file, &manifests::read(file)?).await?;
            return self.only_the_bot_may_read(teller, place).await;
        };
        let root = bao.root()?;
        teller.command("bao secrets enable -path=kv -version=2 kv");
        root.enable_kv("kv", 2).await?;
        teller.command("bao kv put kv/price-bot exchange.key=… revision=1");
        root.put_kv2("kv", "price-bot", &json!({ "exchange.key": "change-me", "revision": "1" })).await?;
        let grant = r#"path "kv/data/price-bot" { capabilities = ["read"] }"#;
        teller.command(&format!("bao policy write price-bot - <<< '{grant}'"));
        root.policy("price-bot", grant).await?;
        teller.command(
            "bao write auth/kubernetes/role/price-bot audience=vault bound_service_account_names=price-bot \\\n  \
             bound_service_account_namespaces=trading-vault token_policies=price-bot token_ttl=10m",
        );
        let role = Role {
            name: "price-bot",
            namespaces: &[self.namespace],
            service_accounts: &["price-bot"],
            policies: &["price-bot"],
            audience: "vault",
            ttl: "10m",
        };
        root.kubernetes_role(&role).await?;
        teller.done("the value is there, and a role that lets in the bot's ServiceAccount and nobody else's");
        Ok(())
    }

    async fn only_the_bot_may_read(&self, teller: &Teller, place: &Place) -> Result<()> {
        for (account, may) in [("price-bot", true), ("default", false)] {
            let user = format!("--as=system:serviceaccount:{}:{account}", self.namespace);
            let words = ["-n", SOURCE, "auth", "can-i", "get", "secret/price-bot", &user];
            teller.command(&place.kubectl.typed(&words));
            // It answers with a word, and a no is an error besides.
            let answer = place.kubectl.run(&words, None).await;
            teller.quote(if answer.is_ok() { "yes" } else { "no" });
            ensure!(
                answer.is_ok() == may,
                "ServiceAccount {account} {} the source",
                if may { "cannot read" } else { "can read" }
            );
        }
        teller.done("the bot's own ServiceAccount may read it, another one may not");
        Ok(())
    }

    /// Writes a new value, and with it the next revision.
    pub async fn rotate(&self, teller: &Teller, place: &Place) -> Result<()> {
        if let Some(bao) = &place.bao {
            teller.command("bao kv put kv/price-bot exchange.key=… revision=2");
            let values = json!({ "exchange.key": "a-new-one", "revision": "2" });
            return bao.root()?.put_kv2("kv", "price-bot", &values).await.map(drop);
        }
        let patch = r#"{"stringData":{"exchange-key":"a-new-one","revision":"2"}}"#;
        place.kubectl.show(&["-n", SOURCE, "patch", "secret", "price-bot", "--type=merge", "-p", patch]).await.map(drop)
    }
}

impl Manifest {
    fn of(file: &'static str) -> Result<Self> {
        Ok(Self { file, text: manifests::read(file)? })
    }
}
