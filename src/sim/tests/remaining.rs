//! What is left of the waiting is told by how early its pods could be known of.

use crate::domain::signal::{Fact, PodWanted};
use crate::domain::workload::{PodNeeds, PodRef};
use crate::forecast::model::Model;
use crate::sim::policy::{Policy, replay};
use crate::sim::report::remaining::Remaining;
use crate::sim::score::{Moment, Tally, Waiting};
use crate::sim::tests::build::Build;
use crate::sim::tests::{close, play};
use crate::sim::world::Planner;

fn build() -> Build {
    let mut build = (1..=6).fold(Build::new(), |build, n| build.image(n, &[(n, 500)]));
    for (pod, made) in [("before", 5.0), ("between", 15.0)] {
        let pod = PodRef {
            name: format!("default/{pod}"),
            uid: format!("uid-{pod}"),
        };
        let wanted = PodWanted {
            pod,
            owner: None,
            needs: PodNeeds::default(),
            unschedulable: true,
        };
        build.push(made, Fact::PodPending(wanted), false);
    }
    let mut build = build
        .node("a", 10.0, 20.0)
        .pod("before", "a", 21.0, &[1])
        .pod("between", "a", 22.0, &[2])
        .pod("soon", "a", 60.0, &[3])
        .pod("in-window", "a", 150.0, &[4])
        .pod("late", "a", 700.0, &[5])
        .pod("daemon", "a", 20.0, &[6]);
    for signal in &mut build.signals {
        if let Fact::PodBound(bound) = &mut signal.fact
            && bound.pod.name == "default/daemon"
        {
            bound.owner = Some("DaemonSet/default/daemon".parse().unwrap());
        }
    }
    build
}

#[test]
fn every_waiting_pod_is_counted_once_by_how_early_it_could_be_known_of() {
    let (header, signals) = build().done();
    let (facts, notes) = play(&header, &signals, Planner::Nobody);
    let moments = Waiting::of(&facts, &notes);
    let counts: Vec<(Moment, usize)> = moments.iter().map(|(m, w)| (*m, w.pods)).collect();
    let one_each = [
        Moment::Daemonset,
        Moment::BeforeJoin,
        Moment::BeforeReady,
        Moment::FirstMinute,
        Moment::FirstTenMinutes,
        Moment::Later,
    ];
    assert_eq!(counts, one_each.map(|moment| (moment, 1)));
    let sum: f64 = moments.values().map(|waiting| waiting.wait_s).sum();
    close(sum, Tally::of(&facts, &notes).wait_s());
}

#[test]
fn what_is_closed_is_measured_between_pending_only_and_the_oracle() {
    let (header, signals) = build().done();
    let one = replay(&header, &signals, &Policy::ALL, &Model::untuned(), |_| ()).unwrap();
    let wait = |policy: Policy| one.runs[&policy].tally.wait_s();
    let (pending, oracle) = (wait(Policy::PendingOnly), wait(Policy::Oracle));
    assert!(oracle < pending, "{oracle} {pending}");
    let expected = (pending - wait(Policy::OracleImages)) / (pending - oracle);
    let remaining = Remaining::of(&[one]).unwrap();
    close(remaining.closed["oracle-images"].unwrap(), expected);
    let few = replay(
        &header,
        &signals,
        &[Policy::Forelay],
        &Model::untuned(),
        |_| (),
    )
    .unwrap();
    assert_eq!(Remaining::of(&[few]), None, "pending-only was not played");
}
