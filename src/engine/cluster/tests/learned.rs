//! What was learned survives a restart, and nothing else is taken for it.

use proptest::prelude::*;

use super::build::*;
use crate::engine::cluster::{Cluster, StateError};
use crate::engine::learn::STATE_MAX;
use crate::forecast::model::Model;

fn experienced(nodes: u64, kinds: u64) -> Cluster {
    let mut signals = Vec::new();
    for n in 0..nodes {
        let node = format!("n{n}");
        let pool = format!("pool-{}", n % 3);
        signals.push(requested(n * 100, &pool, (n / 3 + 1) as u32));
        signals.push(joined(n * 100 + 40, &node, &pool));
        signals.push(ready(n * 100 + 55, &node));
        for kind in 0..kinds {
            let owner = format!(
                "Deployment/shop/{}-{}",
                "x".repeat(40),
                (n + kind) % (kinds * 2)
            );
            let name = format!("p{n}-{kind}");
            signals.push(bound(n * 100 + 80, &name, &owner, &node, &needs(1, &["a"])));
        }
    }
    fed(&signals)
}

#[test]
fn a_new_leader_expects_what_the_old_one_had_seen() {
    let old = experienced(12, 2);
    let mut new = cluster();
    new.load(&old.save(at(0))).unwrap();
    let owner = "Deployment/shop/".to_owned() + &"x".repeat(40) + "-1";
    feed(
        &mut new,
        &[
            resolved(5000, "a", 10),
            applied(5000, &owner, (1, 1), &needs(1, &["a"])),
            joined(5001, "fresh", "pool-0"),
        ],
    );
    assert_eq!(node_plan(&new, "fresh"), ["a"]);
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let error = cluster()
        .load(r#"{"version":9,"future":true}"#)
        .unwrap_err();
    assert_eq!(error, StateError::Version { found: 9, known: 1 });
    for bad in [
        "",
        "[]",
        r#"{"version":1}"#,
        r#"{"version":1,"keys":["x"],"pools":{}}"#,
    ] {
        assert!(
            matches!(cluster().load(bad), Err(StateError::Form(_))),
            "{bad}"
        );
    }
}

#[test]
fn a_state_that_would_be_too_large_forgets_its_oldest_nodes() {
    let mut model = Model::untuned();
    model.history.nodes = 400;
    let mut cluster = Cluster::new(model);
    for n in 0..400_u64 {
        let node = format!("node-{n}-{}", "y".repeat(1500));
        cluster.apply(&joined(n, &node, "general"));
        cluster.apply(&ready(n, &node));
        for kind in 0..6 {
            let owner = format!("Deployment/shop/w{kind}");
            let name = format!("p{n}-{kind}");
            cluster.apply(&bound(n, &name, &owner, &node, &needs(1, &["a"])));
        }
    }
    let text = cluster.save(at(0));
    assert!(
        text.len() <= STATE_MAX && text.len() > STATE_MAX / 2,
        "{}",
        text.len()
    );
    assert!(text.contains("node-399-") && !text.contains("node-0-"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn saving_what_was_loaded_gives_the_same_text(nodes in 0..40_u64, kinds in 0..6_u64) {
        let text = experienced(nodes, kinds).save(at(0));
        let mut again = cluster();
        again.load(&text).unwrap();
        prop_assert_eq!(again.save(at(9)), text);
    }
}
