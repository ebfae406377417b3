//! Every wording of the Events that are read, and texts that are none of them.

use proptest::prelude::*;

use crate::source::kubernetes::text::*;

fn group(group: &str, was: u32, size: u32) -> GroupSize {
    GroupSize {
        group: group.into(),
        was,
        size,
    }
}

#[test]
fn decision_and_confirmation_of_a_scale_up_are_the_same_size() {
    for text in [
        "Scale-up: setting group general-amd64 size to 4 instead of 3 (max: 16)",
        "Scale-up: group general-amd64 size set to 4 instead of 3 (max: 16)",
        "(combined from similar events): Scale-up: group general-amd64 size set to 4 instead of 3 (max: 16)",
    ] {
        assert_eq!(scaled_up_group(text), Some(group("general-amd64", 3, 4)));
    }
    assert_eq!(scaled_up_group("Scale-up: setting group a size to x"), None);
}

#[test]
fn a_pod_names_every_group_that_grows_for_it() {
    let text = "pod triggered scale-up: [{a 3->4 (max: 16)} {https://x/zones/b 0->2 (max: 9)}]";
    let expected = vec![group("a", 3, 4), group("https://x/zones/b", 0, 2)];
    assert_eq!(triggered_scale_up(text), Some(expected));
    assert_eq!(triggered_scale_up("pod triggered scale-up: []"), None);
}

#[test]
fn a_group_that_could_not_grow_is_named_with_the_reason() {
    let text = "Scale-up failed for group https://x/gpu: out of capacity: zone b";
    let expected = ("https://x/gpu".into(), "out of capacity: zone b".into());
    assert_eq!(failed_group(text), Some(expected));
    let late = "Nodes added to group gpu failed to register within 15m4s";
    assert_eq!(
        failed_group(late).unwrap().1,
        "failed to register within 15m4s"
    );
}

#[test]
fn a_nomination_names_claim_or_node() {
    let read = |text: &str| nominated(text);
    assert_eq!(
        read("Pod should schedule on: nodeclaim/a-1"),
        Some((Some("a-1".into()), None))
    );
    assert_eq!(
        read("Pod should schedule on: nodeclaim/a-1, node/n.2"),
        Some((Some("a-1".into()), Some("n.2".into())))
    );
    assert_eq!(read("Pod should schedule on: mars"), None);
}

#[test]
fn every_wording_of_the_kubelet_is_one_pull() {
    let pull = pulled(
        r#"Successfully pulled image "a/b:1" in 1.198s (1m14.7s including waiting). Image size: 266155605 bytes."#,
    )
    .unwrap();
    assert_eq!((pull.pull_s, pull.size), (1.198, Some(266_155_605)));
    assert!((pull.waiting_s - 74.7).abs() < 1e-9 && !pull.present);
    let short = pulled(r#"Successfully pulled image "a" in 542ms"#).unwrap();
    assert_eq!(
        (short.pull_s, short.waiting_s, short.size),
        (0.542, 0.542, None)
    );
    assert_eq!(
        pulled(r#"Successfully pulled image "a""#).unwrap().pull_s,
        0.0
    );
    for text in [
        r#"Container image "q/e:v3" already present on machine and can be accessed by the pod"#,
        r#"Container image "q/e:v3" already present on machine"#,
    ] {
        let pull = pulled(text).unwrap();
        assert_eq!((pull.image.as_str(), pull.present), ("q/e:v3", true));
    }
    assert_eq!(pulled(r#"Back-off pulling image "a""#), None);
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (text, seconds) in [
        ("1m18.863s", 78.863),
        ("859ms", 0.859),
        ("1h0m0s", 3600.0),
        ("412µs", 412e-6),
        ("0s", 0.0),
    ] {
        assert!((duration_s(text).unwrap() - seconds).abs() < 1e-9, "{text}");
    }
    for text in ["", "5", "s", "1.2.3s", "5d"] {
        assert_eq!(duration_s(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(Scale-up: |setting group |size to |\\[|\\{|\\}|->|Successfully pulled image \"|image \"| in |\\PC){0,30}") {
        let _ = (scaled_up_group(&text), triggered_scale_up(&text), failed_group(&text));
        let _ = (nominated(&text), pulled(&text), duration_s(&text));
    }

    #[test]
    fn a_written_scale_up_is_read_back(name in "[a-z][a-z0-9/:.-]{0,40}", was in 0u32..5000, more in 1u32..500) {
        let size = was + more;
        let text = format!("Scale-up: setting group {name} size to {size} instead of {was} (max: 9999)");
        prop_assert_eq!(scaled_up_group(&text), Some(group(&name, was, size)));
        let text = format!("pod triggered scale-up: [{{{name} {was}->{size} (max: 9999)}}]");
        prop_assert_eq!(triggered_scale_up(&text), Some(vec![group(&name, was, size)]));
    }
}
