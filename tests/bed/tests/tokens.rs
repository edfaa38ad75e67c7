//! That a manager of the bed takes the cluster's own tokens and no others.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use botsecret_testbed::{
    Cluster,
    tokens::{ClusterKeys, TokenProblem, claims, foreign_token},
};

#[tokio::test]
async fn only_a_living_token_of_this_cluster_for_this_audience_is_taken() {
    let cluster = Cluster::shared().await.expect("a cluster");
    let keys = ClusterKeys::fetch(cluster).await.expect("published keys");
    let namespace = cluster.namespace("tokens").await.expect("a namespace");
    let token = async |audiences: &[&str]| {
        cluster.service_account_token(&namespace, "default", audiences, 600).await.expect("a token")
    };
    let real = keys.verify(&token(&["manager"]).await, "manager").expect("taken");
    assert_eq!((real.namespace.as_str(), real.service_account.as_str()), (namespace.as_str(), "default"));

    let made = |audience, ends_in| claims(keys.issuer(), &namespace, "default", audience, ends_in);
    let own = cluster.sign_token(&made("manager", 600)).await.expect("signed");
    assert!(keys.verify(&own, "manager").is_ok(), "the bed's own signature counts");
    let elsewhere = claims("https://elsewhere.example", &namespace, "default", "manager", 600);
    for (what, token, problem) in [
        ("another audience", token(&["other"]).await, TokenProblem::Audience),
        ("several audiences", token(&["manager", "other"]).await, TokenProblem::Audience),
        ("expired", cluster.sign_token(&made("manager", -1)).await.expect("signed"), TokenProblem::Expired),
        ("another issuer", cluster.sign_token(&elsewhere).await.expect("signed"), TokenProblem::Issuer),
        ("another key", foreign_token(cluster, &made("manager", 600)).await.expect("signed"), TokenProblem::Signature),
        ("no token", "a.b.c".into(), TokenProblem::Malformed),
    ] {
        assert_eq!(keys.verify(&token, "manager"), Err(problem), "{what}");
    }
}
