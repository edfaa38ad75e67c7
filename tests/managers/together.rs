//! P1: one BotSecret fed by every manager at once.

use botsecret_testbed::{ALWAYS, FaultKind, wait_for};

use crate::{
    support::{DEADLINE, Result},
    world::{Desk, STORES},
};

/// The name under which the proxy knows where each manager keeps its data.
fn host(manager: &str) -> &'static str {
    match manager {
        "aws" => "secretsmanager.eu-west-1.amazonaws.com",
        "gcp" => "secretmanager.googleapis.com",
        "azure" => "bots.vault.test",
        _ => "vault.example",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_of_four_managers_one_that_fails_leaves_nothing_half_written() -> Result {
    let desk = Desk::new("together").await?;
    let value = |manager: &str, round: u32| format!("the value number {round} that {manager} holds");
    for manager in STORES {
        desk.put(manager, "key", &value(manager, 1)).await?;
    }
    let entries = || STORES.map(|manager| desk.entry(&manager.to_uppercase(), manager, "key")).to_vec();

    // Before the first sync: whichever of them fails, there is no Secret.
    for failing in STORES {
        let name = format!("without-{failing}");
        let mut data = entries();
        let at = STORES.iter().position(|manager| *manager == failing).expect("one of them");
        data[at] = desk.entry(&failing.to_uppercase(), failing, "not-there");
        desk.bot_secret(&name, data).await?;
        let (reason, message) = desk.until_ready(&name, "False").await?;
        assert!(["RemoteSecretMissing", "AccessDenied"].contains(&reason.as_str()), "{failing}: {reason} {message}");
        assert!(message.contains(&desk.store_name(failing)) && message.contains(&desk.named("not-there")), "{message}");
        assert_eq!(desk.data(&name).await?, None, "{failing}");
    }

    desk.bot_secret("all", entries()).await?;
    desk.until_ready("all", "True").await?;
    let mut wanted: Vec<_> = STORES.iter().map(|manager| (manager.to_uppercase(), value(manager, 1))).collect();
    wanted.sort();
    let (data, version) = desk.data("all").await?.expect("a Secret");
    assert_eq!(data, wanted);

    // Afterwards: each in turn is out while all four values change.
    for (failing, round) in STORES.into_iter().zip(2..) {
        let before = desk.data("all").await?.expect("a Secret");
        let mark = desk.managers.proxy.mark();
        desk.managers.proxy.fault(
            host(failing),
            FaultKind::Status { code: 503, headers: Vec::new(), body: b"out of order".to_vec() },
            ALWAYS,
        );
        for manager in STORES {
            desk.put(manager, "key", &value(manager, round)).await?;
        }
        // Every manager is asked for this desk at least twice more.
        wait_for("the outage to be met", DEADLINE, async || {
            let met = desk.managers.proxy.since(mark);
            let met = met.iter().filter(|request| request.host == host(failing) && request.status == Some(503));
            Ok((met.count() >= 2).then_some(()))
        })
        .await?;
        assert_eq!(desk.data("all").await?.expect("a Secret"), before, "{failing} is out");
        desk.managers.proxy.clear(host(failing));
        wait_for("the new values", DEADLINE, async || {
            let (data, _) = desk.data("all").await?.expect("a Secret");
            Ok(data.iter().all(|(_, value)| value.contains(&format!("number {round} "))).then_some(()))
        })
        .await?;
    }
    assert_ne!(desk.data("all").await?.expect("a Secret").1, version);
    Ok(())
}
