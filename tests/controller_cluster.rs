//! The controller against an API server: the embedded one, and any real one that is named.
//!
//! `FORELAY_TEST_KUBECONFIG` names a kubeconfig of a cluster that tests may write to;
//! `FORELAY_TEST_REQUIRE_KUBE=1` makes it an error when it does not.

#[path = "controller/cluster.rs"]
mod cluster;
#[path = "controller/election.rs"]
mod election;
#[path = "controller/gate.rs"]
mod gate;
#[path = "controller/model.rs"]
mod model;
#[path = "controller/offers.rs"]
mod offers;
#[path = "controller/replica.rs"]
mod replica;
#[path = "controller/stock.rs"]
mod stock;
#[path = "controller/watching.rs"]
mod watching;
#[path = "controller/whole.rs"]
mod whole;

use cluster::TestCluster;

/// One test per story; each is told on the embedded API server and on the real one, if any.
macro_rules! on_every_cluster {
    ($($name:ident: $story:path;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let embedded = TestCluster::embedded().await;
            $story(&embedded).await;
            embedded.end().await;
            if let Some(real) = TestCluster::real().await {
                $story(&real).await;
                real.end().await;
            }
        })*
    };
}

on_every_cluster! {
    a_successor_leads_with_a_greater_epoch_and_never_beside_the_old_leader: election::succession;
    a_leader_that_leaves_gives_the_lease_back: election::release;
    the_replica_beside_the_autoscalers_leader_leads_where_there_is_one: election::following;
    a_deleted_lease_does_not_bring_old_epochs_back: election::deleted_lease;
    a_plan_is_written_with_its_owner_revised_and_removed: election::publishing;
    a_write_with_an_older_epoch_is_refused_by_the_api_server: election::fencing;
    state_is_kept_and_an_older_leader_cannot_overwrite_it: election::state;
    kinds_that_appear_later_are_watched_and_objects_become_signals: watching::kinds;
    policies_are_followed_and_their_conditions_written: watching::policies;
    a_pod_that_waits_is_in_the_plan_of_the_node_that_joins: whole::plan_of_a_node;
    what_a_node_has_is_not_planned_again_and_what_went_is: stock::inventory;
    a_node_that_joins_while_the_leader_is_killed_is_planned_for: whole::killed_leader;
    the_pool_of_a_group_that_may_grow_is_planned_for: offers::plan_of_a_pool;
    state_of_an_unknown_version_is_not_used: whole::unknown_state;
    observe_writes_nothing_and_off_withdraws: whole::modes;
    a_bad_model_file_leaves_the_old_one_and_a_good_one_takes_over: model::followed;
}

/// Stories that need faults which only the embedded server can be given.
macro_rules! on_the_embedded_server {
    ($($name:ident: $story:path;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let embedded = TestCluster::embedded().await;
            $story(&embedded).await;
            embedded.end().await;
        })*
    };
}

on_the_embedded_server! {
    what_happened_while_the_watches_had_expired_is_heard: watching::expiry;
    an_object_that_cannot_be_decoded_is_counted_and_its_neighbours_are_heard:
        watching::broken_object;
    a_leader_that_cannot_be_heard_has_stopped_before_another_begins: election::silence;
    a_paused_leader_that_wakes_cannot_overwrite_its_successor: whole::paused_leader;
    what_was_learned_survives_a_restart: whole::restart;
    plans_follow_what_happened_while_the_watches_had_expired: whole::expired_watches;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_publishes_when_its_definitions_are_installed_later() {
    let bare = TestCluster::bare().await;
    whole::late_definitions(&bare).await;
    bare.end().await;
}
