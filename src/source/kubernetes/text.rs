//! Sentences of Events as values; what is not understood is `None`, never a guess.
//!
//! After ten similar events the recorder writes "(combined from similar events): ..." in front, so
//! every sentence is looked for anywhere in the text.

/// `{G M->N (max: K)}` in any of its wordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSize {
    /// Node group as cluster-autoscaler names it.
    pub group: String,
    /// Size before.
    pub was: u32,
    /// Size asked for.
    pub size: u32,
}

/// One pull in the kubelet's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// Reference as written in the pod.
    pub image: String,
    /// Compressed bytes; older kubelets do not tell.
    pub size: Option<u64>,
    /// Seconds of pulling.
    pub pull_s: f64,
    /// Seconds with the wait in the queue.
    pub waiting_s: f64,
    /// It was there.
    pub present: bool,
}

/// `Scale-up: setting group G size to N instead of M (max: K)` (the decision) and
/// `Scale-up: group G size set to N instead of M (max: K)` (the cloud has agreed).
#[must_use]
pub fn scaled_up_group(message: &str) -> Option<GroupSize> {
    let (group, rest) = match after(message, "Scale-up: setting group ") {
        Some(rest) => rest.split_once(" size to ")?,
        None => after(message, "Scale-up: group ")?.split_once(" size set to ")?,
    };
    let (size, rest) = rest.split_once(" instead of ")?;
    let was = rest.split([' ', '(']).next()?;
    Some(GroupSize {
        group: group.to_owned(),
        was: was.parse().ok()?,
        size: size.parse().ok()?,
    })
}

/// `pod triggered scale-up: [{G M->N (max: K)} {..}]`
#[must_use]
pub fn triggered_scale_up(message: &str) -> Option<Vec<GroupSize>> {
    let list = after(message, "triggered scale-up: [")?;
    let list = &list[..list.rfind(']')?];
    let one = |part: &str| {
        let (group, sizes) = part.rsplit_once(" (max:")?.0.rsplit_once(' ')?;
        let (was, size) = sizes.split_once("->")?;
        Some(GroupSize {
            group: group.to_owned(),
            was: was.parse().ok()?,
            size: size.parse().ok()?,
        })
    };
    let parts = list.split('{').skip(1);
    let groups: Option<Vec<_>> = parts.map(one).collect();
    groups.filter(|groups| !groups.is_empty())
}

/// `Scale-up failed for group G: ERR` and `Nodes added to group G failed to register within D`:
/// group and reason.
#[must_use]
pub fn failed_group(message: &str) -> Option<(String, String)> {
    let (group, reason) = match after(message, "Scale-up failed for group ") {
        Some(rest) => rest.split_once(": ")?,
        None => {
            let rest = after(message, "Nodes added to group ")?;
            let cut = rest.find(" failed to register")?;
            (&rest[..cut], rest[cut..].trim_start())
        }
    };
    Some((group.to_owned(), reason.to_owned()))
}

/// `Pod should schedule on: nodeclaim/X, node/Y`: claim and node.
#[must_use]
pub fn nominated(message: &str) -> Option<(Option<String>, Option<String>)> {
    let list = after(message, "should schedule on: ")?;
    let named = |kind: &str| {
        let mut parts = list.split([',', ' ']);
        let name = parts.find_map(|part| part.strip_prefix(kind))?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    let found = (named("nodeclaim/"), named("node/"));
    (found != (None, None)).then_some(found)
}

/// `Successfully pulled image "X" in D (D including waiting). Image size: B bytes.`, the same
/// without size or durations (older kubelets), and
/// `Container image "X" already present on machine[ and can be accessed by the pod]`.
#[must_use]
pub fn pulled(message: &str) -> Option<Pull> {
    let (present, rest) = match after(message, "Successfully pulled image \"") {
        Some(rest) => (false, rest),
        None => (true, after(message, "mage \"")?),
    };
    let (image, rest) = rest.split_once('"')?;
    if present && !rest.contains("already present on machine") {
        return None;
    }
    let pull_s = after(rest, " in ")
        .filter(|_| !present)
        .and_then(|text| duration_s(text.split(' ').next()?));
    let waiting_s = rest
        .split_once(" including waiting")
        .and_then(|(head, _)| duration_s(head.rsplit('(').next()?));
    let size = after(rest, "Image size: ").and_then(|text| text.split(' ').next()?.parse().ok());
    let pull_s = pull_s.unwrap_or(0.0);
    Some(Pull {
        image: image.to_owned(),
        size,
        pull_s,
        waiting_s: waiting_s.unwrap_or(pull_s),
        present,
    })
}

/// A duration as Go's `time.Duration` writes it: `1m18.863s`, `859ms`, `412.5µs`, `0s`.
#[must_use]
pub fn duration_s(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    // Whole microseconds: the sum's own error would be written with 17 digits.
    (!text.is_empty()).then(|| (total * 1e6).round() / 1e6)
}

fn after<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.split_once(marker).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            ("412.5µs", 412.5e-6),
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
}
