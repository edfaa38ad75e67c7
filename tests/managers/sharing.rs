//! P2: what many BotSecrets of one identity cost a manager.

use botsecret_testbed::wait_for;

use crate::{
    support::{DEADLINE, Result},
    world::Desk,
};

#[tokio::test(flavor = "multi_thread")]
async fn p2_fifty_bot_secrets_of_one_identity_share_one_login_and_one_read_a_refresh() -> Result {
    let desk = Desk::new("sharing").await?;
    for number in 0..10 {
        desk.put("aws", &format!("secret-{number}"), &format!("the value of the shared secret {number}")).await?;
    }
    let mark = desk.managers.aws.requests().len();
    for number in 0..50 {
        let entries =
            (0..2).map(|key| desk.entry(&format!("KEY_{key}"), "aws", &format!("secret-{}", (number + key) % 10)));
        desk.bot_secret(&format!("bot-{number}"), entries.collect()).await?;
    }
    for number in 0..50 {
        desk.until_ready(&format!("bot-{number}"), "True").await?;
    }
    let of_this_desk = |action: &str| {
        let requests = desk.managers.aws.requests().split_off(mark);
        let own = requests.iter().filter(|request| request.input.to_string().contains(&desk.namespace));
        own.filter(|request| request.action == action).count()
    };
    // The first refreshes are still those of single BotSecrets, as each was
    // made at a time of its own.
    let made = of_this_desk("BatchGetSecretValue");
    wait_for("refreshes in step", DEADLINE, async || {
        Ok((of_this_desk("BatchGetSecretValue") >= made + 5).then_some(()))
    })
    .await?;
    // From now on one read a refresh, whatever the number of BotSecrets.
    let (batches, singles) = (of_this_desk("BatchGetSecretValue"), of_this_desk("GetSecretValue"));
    let began = std::time::Instant::now();
    wait_for("eight more refreshes", DEADLINE, async || {
        Ok((of_this_desk("BatchGetSecretValue") >= batches + 8).then_some(()))
    })
    .await?;
    let (more, seconds) = (of_this_desk("BatchGetSecretValue") - batches, began.elapsed().as_secs_f64());
    println!("{more} reads in {seconds:.1} s for 50 BotSecrets of 100 keys");
    assert!(seconds > 6.0, "{more} reads in {seconds} s: more than one a refresh");
    assert_eq!(of_this_desk("GetSecretValue"), singles);
    assert_eq!(of_this_desk("AssumeRoleWithWebIdentity"), 1);
    Ok(())
}
