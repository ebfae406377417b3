//! Promises that hold for every sequence of signals.

use proptest::prelude::*;

use super::build::*;
use crate::domain::plan::{Plan, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{Fact, NodeInterrupted, PodNominated, Signal};
use crate::engine::cluster::{Applied, Cluster, Effect};
use crate::forecast::model::Model;
use crate::plan::select::budget;

const IMAGES: [&str; 6] = ["web-1", "web-2", "db-1", "log-1", "ml-1", "job-1"];

/// One drawn event; small ranges, so that the same objects are met again and again.
fn event() -> impl Strategy<Value = Signal> {
    (0..9_u8, 0..300_u64, 0..4_u64, 0..6_usize, 1..4_u32).prop_map(|(kind, t, n, i, count)| {
        let node = format!("n{n}");
        let pool = format!("pool-{}", n % 2);
        let name = format!("p{i}-{n}");
        let owner = format!("Deployment/shop/w{i}");
        let needs = needs(500 * u64::from(count), &IMAGES[i..=i]);
        match kind {
            0 => joined_as(
                t,
                &node,
                &pool,
                shape(if n % 2 == 0 { "amd64" } else { "arm64" }),
            ),
            1 => ready(t, &node),
            2 => node_removed(t, &node),
            3 => pending(t, &name, &owner, &needs),
            4 => bound(t, &name, &owner, &node, &needs),
            5 => pod_removed(t, &name),
            6 => applied(t, &owner, (count, 0), &needs),
            7 => requested(t, &pool, count),
            _ => applied(t, "DaemonSet/kube-system/log", (1, 1), &needs),
        }
    })
}

/// Events that fewer clusters see, of the same objects.
fn rarer_event() -> impl Strategy<Value = Signal> {
    (0..7_u8, 0..300_u64, 0..4_u64, 0..6_usize, 0..3_u32).prop_map(|(kind, t, n, i, count)| {
        let node = format!("n{n}");
        let pool = format!("pool-{}", n % 2);
        let name = format!("p{i}-{n}");
        let owner = format!("Deployment/shop/w{i}");
        let needs = needs(500, &IMAGES[i..=i]);
        match kind {
            0 => gated(t, &name, &owner, &needs),
            1 => claimed(t, &pool, &format!("c{n}"), Some(&format!("n{}", i % 4))),
            2 => {
                let fact = PodNominated {
                    pod: pod(&name),
                    node: (count == 0).then(|| node.clone()),
                    request: (count > 0).then(|| format!("c{n}")),
                };
                signal(t, Fact::PodNominated(fact))
            }
            3 => {
                let reason = "spot".into();
                signal(
                    t,
                    Fact::NodeInterrupted(NodeInterrupted {
                        node,
                        reason,
                        deadline: None,
                    }),
                )
            }
            4 => workload_removed(t, &owner),
            5 => applied(t, &owner, (0, 0), &needs),
            _ => {
                let mut scaler = scaler(&owner, count, count + 2);
                scaler.ratio = Some(1.5);
                signal(t, Fact::ScalerObserved(scaler))
            }
        }
    })
}

/// Every image means something, for both architectures; sizes differ widely.
fn meanings() -> Vec<Signal> {
    let sizes = [60, 150, 900, 20, 4000, 5];
    IMAGES
        .iter()
        .zip(sizes)
        .map(|(name, size)| resolved(0, name, size))
        .collect()
}

fn run(cluster: &mut Cluster, signals: &[Signal]) -> Vec<Plan> {
    let mut published = Vec::new();
    let mut now = at(0);
    for signal in meanings().iter().chain(signals) {
        cluster.apply(signal);
        now = now.max(signal.observedtime);
        for effect in cluster.step(now) {
            if let Effect::Publish(plan) = effect {
                published.push(plan);
            }
        }
    }
    published
}

fn small() -> Model {
    let mut model = Model::default();
    model.disk.fraction = 0.04;
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_plan_keeps_to_budget_platform_names_and_time(signals in prop::collection::vec(event(), 0..60)) {
        let model = small();
        let most = budget(&model.disk, Some(ByteSize(100 << 30)));
        let unknown = budget(&model.disk, None);
        let mut cluster = Cluster::new(model);
        for plan in run(&mut cluster, &signals) {
            let bytes: ByteSize = plan.entries.iter().map(|entry| entry.bytes).sum();
            prop_assert!(bytes <= most.max(unknown), "{bytes}");
            let name = plan.target.name();
            let odd = name.ends_with('1') || name.ends_with('3');
            for entry in &plan.entries {
                prop_assert_eq!(&entry.platform.arch, if odd { "arm64" } else { "amd64" });
                prop_assert!(entry.expires > plan.made);
                prop_assert!((0.0..=1.0).contains(&entry.probability));
                let named = IMAGES.iter().any(|name| image(name) == entry.image);
                prop_assert!(named, "{}", entry.image);
            }
        }
    }

    #[test]
    fn hearing_everything_again_changes_nothing(signals in prop::collection::vec(event(), 0..60)) {
        let mut signals = signals;
        signals.sort_by_key(|signal| signal.observedtime);
        let mut cluster = Cluster::new(Model::default());
        run(&mut cluster, &signals);
        let now = at(400);
        cluster.step(now);
        let (sizes, plans): (_, Vec<Plan>) = (cluster.sizes(), cluster.plans().cloned().collect());
        for signal in meanings().iter().chain(&signals) {
            cluster.apply(signal);
        }
        let effects = cluster.step(now);
        prop_assert!(!effects.iter().any(|e| matches!(e, Effect::Publish(_) | Effect::Retract(_))), "{effects:?}");
        prop_assert_eq!(cluster.sizes(), sizes);
        prop_assert_eq!(cluster.plans().cloned().collect::<Vec<_>>(), plans);
    }

    #[test]
    fn counting_and_planning_everything_anew_changes_nothing(
        signals in prop::collection::vec(prop_oneof![event(), rarer_event()], 0..80),
    ) {
        let mut signals = signals;
        signals.sort_by_key(|signal| signal.observedtime);
        let mut cluster = Cluster::new(Model::default());
        run(&mut cluster, &signals);
        // Past every pause: nothing waits for its turn.
        let now = at(310);
        for second in 301..=310 {
            cluster.step(at(second));
        }
        let groups = format!("{:#?}", cluster.groups.list());
        cluster.mark_groups();
        let turned = cluster.renew_groups(now);
        prop_assert!(turned.is_empty(), "{turned:?}");
        prop_assert_eq!(format!("{:#?}", cluster.groups.list()), groups);
        cluster.mark_everything();
        let before: Vec<Plan> = cluster.plans().cloned().collect();
        let effects = cluster.step(now);
        // How many nodes come is counted every ten seconds at most: a plan may be told for that alone.
        let news = effects.iter().any(|effect| {
            matches!(effect, Effect::Publish(plan) if !before.iter().any(|old| old.same_wishes(plan)))
        });
        prop_assert!(!news, "{effects:#?}");
    }

    #[test]
    fn the_order_in_which_a_state_is_told_does_not_matter(
        order in Just(state()).prop_shuffle(),
    ) {
        let plans = |signals: &[Signal]| {
            let mut cluster = Cluster::new(Model::default());
            for signal in signals {
                cluster.apply(signal);
            }
            cluster.step(at(100));
            cluster.plans().cloned().collect::<Vec<Plan>>()
        };
        let told = plans(&state());
        prop_assert!(!told.is_empty());
        prop_assert_eq!(plans(&order), told);
    }
}

/// One state of a cluster, each object told once.
fn state() -> Vec<Signal> {
    let mut signals = meanings();
    signals.push(applied(
        5,
        "DaemonSet/kube-system/log",
        (1, 1),
        &needs(10, &["log-1"]),
    ));
    signals.push(applied(
        6,
        "Deployment/shop/web",
        (9, 9),
        &needs(1000, &["web-1", "job-1"]),
    ));
    for n in 0..3 {
        let node = format!("n{n}");
        signals.push(joined(10 + n, &node, "general"));
        if n < 2 {
            signals.push(ready(20 + n, &node));
        }
        let name = format!("b{n}");
        signals.push(bound(
            30 + n,
            &name,
            "Deployment/shop/web",
            &node,
            &needs(1000, &["web-1", "job-1"]),
        ));
    }
    for n in 0..4 {
        let name = format!("w{n}");
        let owner = format!("Deployment/shop/{}", ["web", "db"][n % 2]);
        let image = ["web-1", "db-1"][n % 2];
        signals.push(pending(
            50 + n as u64,
            &name,
            &owner,
            &needs(1500, &[image]),
        ));
    }
    signals.push(requested(60, "general", 5));
    signals
}

#[test]
fn a_repeated_signal_is_told_apart_from_news() {
    let mut cluster = cluster();
    for signal in state() {
        if matches!(signal.fact, Fact::NodeRequested(_)) {
            continue;
        }
        assert_eq!(cluster.apply(&signal), Applied::Changed, "{signal:?}");
        assert!(
            matches!(cluster.apply(&signal), Applied::Ignored(_)),
            "{signal:?}"
        );
    }
    assert!(cluster.plan(&Target::Pool("nowhere".into())).is_none());
}
