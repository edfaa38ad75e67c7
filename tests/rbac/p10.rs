//! The rights, one by one, and what breaks without each.

use std::collections::BTreeSet;

use crate::{
    apart, beyond, blind, lease,
    right::{Right, granted},
    secrets,
    support::Result,
    told, unready, workloads,
};

/// A test for each line: `name: verb group resource object => what it shows`.
macro_rules! rights {
    ($($name:ident: $verb:literal $group:literal $resource:literal $object:literal => $shows:path;)*) => {
        /// Each test and its right.
        fn rows() -> Vec<(&'static str, Right)> {
            vec![$((stringify!($name), Right::new($verb, $group, $resource, $object)),)*]
        }

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result {
                $shows(Right::new($verb, $group, $resource, $object)).await
            }
        )*
    };
}

rights! {
    botsecrets_list_is_needed_to_be_ready:
        "list" "botsecret.dev" "botsecrets" "" => unready::it_is_never_ready;
    botsecrets_watch_is_needed_to_see_new_ones:
        "watch" "botsecret.dev" "botsecrets" "" => blind::a_new_bot_secret_is_not_seen;
    botsecrets_patch_is_needed_to_let_one_go_that_is_deleted:
        "patch" "botsecret.dev" "botsecrets" "" => told::a_deletion_hangs;
    botsecrets_status_patch_is_needed_to_say_what_was_done:
        "patch" "botsecret.dev" "botsecrets/status" "" => told::there_is_no_status;
    botsecretstores_list_is_needed_to_be_ready:
        "list" "botsecret.dev" "botsecretstores" "" => unready::it_is_never_ready;
    botsecretstores_watch_is_needed_to_see_new_ones:
        "watch" "botsecret.dev" "botsecretstores" "" => blind::a_new_store_is_not_seen;
    clusterbotsecretstores_list_is_needed_to_be_ready:
        "list" "botsecret.dev" "clusterbotsecretstores" "" => apart::it_is_never_ready;
    clusterbotsecretstores_watch_is_needed_to_see_new_ones:
        "watch" "botsecret.dev" "clusterbotsecretstores" "" => apart::a_new_store_is_not_seen;

    secrets_get_is_needed_to_start_and_to_write_over_what_is_there:
        "get" "" "secrets" "" => secrets::nothing_is_read;
    secrets_list_is_needed_to_be_ready:
        "list" "" "secrets" "" => unready::it_is_never_ready;
    secrets_watch_is_needed_to_put_right_what_somebody_spoilt:
        "watch" "" "secrets" "" => blind::what_somebody_spoilt_stays_so;
    secrets_create_is_needed_to_start_and_to_make_them:
        "create" "" "secrets" "" => secrets::nothing_is_made;
    secrets_update_is_needed_to_write_a_new_value:
        "update" "" "secrets" "" => secrets::nothing_is_written_over;
    secrets_patch_is_needed_to_merge_into_one:
        "patch" "" "secrets" "" => secrets::nothing_is_merged;
    secrets_delete_is_needed_to_drop_what_was_kept_aside:
        "delete" "" "secrets" "" => secrets::what_was_kept_aside_stays;

    serviceaccounts_list_is_needed_to_be_ready:
        "list" "" "serviceaccounts" "" => unready::it_is_never_ready;
    serviceaccounts_watch_is_needed_to_see_new_ones:
        "watch" "" "serviceaccounts" "" => blind::a_new_service_account_is_not_seen;
    serviceaccounts_token_create_is_needed_to_read_as_the_bot:
        "create" "" "serviceaccounts/token" "" => told::nothing_is_read_as_the_bot;

    deployments_get_is_needed_to_roll_one:
        "get" "apps" "deployments" "" => workloads::it_is_not_rolled;
    deployments_list_is_needed_to_be_ready:
        "list" "apps" "deployments" "" => unready::it_is_never_ready;
    deployments_watch_is_needed_to_roll_a_new_one:
        "watch" "apps" "deployments" "" => workloads::it_is_not_seen;
    deployments_patch_is_needed_to_roll_one:
        "patch" "apps" "deployments" "" => workloads::it_is_not_rolled;
    statefulsets_get_is_needed_to_roll_one:
        "get" "apps" "statefulsets" "" => workloads::it_is_not_rolled;
    statefulsets_list_is_needed_to_be_ready:
        "list" "apps" "statefulsets" "" => unready::it_is_never_ready;
    statefulsets_watch_is_needed_to_roll_a_new_one:
        "watch" "apps" "statefulsets" "" => workloads::it_is_not_seen;
    statefulsets_patch_is_needed_to_roll_one:
        "patch" "apps" "statefulsets" "" => workloads::it_is_not_rolled;
    daemonsets_get_is_needed_to_roll_one:
        "get" "apps" "daemonsets" "" => workloads::it_is_not_rolled;
    daemonsets_list_is_needed_to_be_ready:
        "list" "apps" "daemonsets" "" => unready::it_is_never_ready;
    daemonsets_watch_is_needed_to_roll_a_new_one:
        "watch" "apps" "daemonsets" "" => workloads::it_is_not_seen;
    daemonsets_patch_is_needed_to_roll_one:
        "patch" "apps" "daemonsets" "" => workloads::it_is_not_rolled;
    rollouts_get_is_needed_to_roll_one:
        "get" "argoproj.io" "rollouts" "" => workloads::it_is_not_rolled;
    rollouts_list_is_needed_to_roll_one:
        "list" "argoproj.io" "rollouts" "" => workloads::it_is_not_seen;
    rollouts_watch_is_needed_to_roll_a_new_one:
        "watch" "argoproj.io" "rollouts" "" => workloads::it_is_not_seen;
    rollouts_patch_is_needed_to_roll_one:
        "patch" "argoproj.io" "rollouts" "" => workloads::it_is_not_rolled;
    customresourcedefinitions_list_is_needed_to_ask_for_no_rollouts_where_there_are_none:
        "list" "apiextensions.k8s.io" "customresourcedefinitions" "rollouts.argoproj.io"
            => apart::rollouts_are_asked_for_that_are_not_there;
    customresourcedefinitions_watch_is_needed_to_see_that_argo_rollouts_was_installed:
        "watch" "apiextensions.k8s.io" "customresourcedefinitions" "rollouts.argoproj.io"
            => apart::rollouts_that_come_later_are_not_seen;
    pods_list_is_needed_to_know_who_holds_an_old_value:
        "list" "" "pods" "" => workloads::it_is_not_rolled;

    cronjobs_get_is_needed_to_try_a_value:
        "get" "batch" "cronjobs" "" => beyond::nothing_is_tried;
    jobs_get_is_needed_to_try_a_value:
        "get" "batch" "jobs" "" => beyond::nothing_is_tried;
    jobs_create_is_needed_to_try_a_value:
        "create" "batch" "jobs" "" => beyond::nothing_is_tried;
    jobs_delete_is_needed_to_clear_away_what_tried_one:
        "delete" "batch" "jobs" "" => beyond::what_tried_a_value_stays;
    pods_delete_is_needed_to_replace_one_that_is_stuck_on_a_bad_value:
        "delete" "" "pods" "" => beyond::a_stuck_pod_stays;

    events_create_is_needed_to_tell_what_happened:
        "create" "events.k8s.io" "events" "" => told::nothing_is_told;
    events_patch_is_needed_to_tell_that_it_happened_again:
        "patch" "events.k8s.io" "events" "" => told::nothing_is_told_twice;

    leases_create_is_needed_to_lead_at_the_first_start:
        "create" "coordination.k8s.io" "leases" "" => lease::nobody_ever_leads;
    leases_get_is_needed_to_lead_at_the_first_start:
        "get" "coordination.k8s.io" "leases" "botsecret" => lease::nobody_ever_leads;
    leases_list_is_needed_to_take_at_once_what_is_handed_back:
        "list" "coordination.k8s.io" "leases" "botsecret" => lease::a_standby_does_not_see_that_the_lease_is_free;
    leases_watch_is_needed_to_take_at_once_what_is_handed_back:
        "watch" "coordination.k8s.io" "leases" "botsecret" => lease::a_standby_does_not_see_that_the_lease_is_free;
    leases_update_is_needed_to_lead_at_any_later_start:
        "update" "coordination.k8s.io" "leases" "botsecret" => lease::nobody_leads_again;
}

#[test]
fn each_right_that_is_granted_has_a_test_and_no_test_is_of_another() {
    let granted = &granted("ClusterRole").expect("rules") | &granted("Role").expect("rules");
    let tested: BTreeSet<Right> = rows().into_iter().map(|(_, right)| right).collect();
    assert_eq!(tested.len(), rows().len(), "a right has two tests");
    let untested: Vec<_> = granted.difference(&tested).collect();
    assert!(untested.is_empty(), "granted, and nothing shows that it is needed: {untested:#?}");
    let ungranted: Vec<_> = tested.difference(&granted).collect();
    assert!(ungranted.is_empty(), "a test of what is not granted: {ungranted:#?}");
}

#[test]
fn each_test_is_named_after_its_right() {
    for (name, right) in rows() {
        let start = format!("{}_{}_is_needed_to_", right.resource.replace('/', "_"), right.verb);
        assert!(name.starts_with(&start), "{name} does not begin with {start}");
    }
}

/// What is granted for every namespace must not be what one is enough for.
#[test]
fn the_rights_to_leases_are_for_the_operators_own_namespace_and_all_others_are_not() {
    let is_lease = |right: &Right| right.group == "coordination.k8s.io";
    assert!(granted("Role").expect("rules").iter().all(is_lease));
    assert!(!granted("ClusterRole").expect("rules").iter().any(is_lease));
}
