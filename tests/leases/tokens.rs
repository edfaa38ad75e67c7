//! The ServiceAccounts' tokens that leased credentials' logins are made with.

use botsecret_testbed::wait_for;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    bank::{Bank, Terms, counter, delete, until_credential, until_states},
    support::{Bench, DEADLINE, Result},
};

const LONG: i64 = 86_400;
const USUAL: i64 = 600;

fn lives(all: &[(String, i64)], audience: &str) -> Vec<i64> {
    all.iter().filter(|(of, _)| of == audience).map(|(_, seconds)| *seconds).collect()
}

#[tokio::test]
async fn p7_a_kubernetes_login_that_holds_a_credential_has_a_token_of_its_own_for_a_day_and_no_other_has() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("lease-token-life").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.put_source("plain", &[("KEY", "a plain value")]).await?;
    bench.kubernetes_store("source").await?;
    bench.apply(bench.bot_secret("plain", "plain")).await?;
    bench.until_value("plain", "KEY", "a plain value").await?;
    for name in ["one", "two"] {
        bench.apply(bank.bot_secret(name)).await?;
        until_credential(&bench, name).await?;
        let live = until_states(&bench, name, &["Live"]).await?;
        let time = |text: &str| text.parse::<Timestamp>();
        let ends = time(live[0].token_ends.as_deref().expect("the token's end is on record"))?;
        let life = ends.duration_since(time(&live[0].issued)?);
        let day = SignedDuration::from_secs(LONG);
        assert!(life <= day && life > day - SignedDuration::from_mins(5), "{life:?}");
    }
    let asked = proxy.token_lives();
    assert_eq!(lives(&asked, "vault"), [LONG; 2], "each of its own: {asked:?}");
    let others: Vec<_> = asked.iter().filter(|(audience, _)| audience != "vault").map(|(_, life)| *life).collect();
    assert!(!others.is_empty() && others.iter().all(|life| *life == USUAL), "{asked:?}");
    // What looks after them when the operator was restarted holds nothing.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    wait_for("renewals", DEADLINE, async || Ok((counter(&bench, "lease_renewals").await? >= 2).then_some(()))).await?;
    for name in ["one", "two"] {
        delete(&bench, name, DEADLINE).await?;
    }
    let later = lives(&proxy.token_lives(), "vault").split_off(2);
    assert!(!later.is_empty() && later.iter().all(|life| *life == USUAL), "{later:?}");
    bank.until_leases(0).await
}

#[tokio::test]
async fn p7_a_jwt_login_needs_no_longer_token_since_it_is_renewed_without_one() -> Result {
    let (bench, proxy) = Bench::behind_proxy("lease-token-jwt").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bank.log_in_by_jwt(&bench, "20s").await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(live[0].token_ends, None);
    let asked = lives(&proxy.token_lives(), "vault");
    assert!(!asked.is_empty() && asked.iter().all(|life| *life == USUAL), "{asked:?}");
    Ok(())
}
