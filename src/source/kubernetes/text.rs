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
    let (group, reason) = if let Some(rest) = after(message, "Scale-up failed for group ") {
        rest.split_once(": ")?
    } else {
        let rest = after(message, "Nodes added to group ")?;
        let cut = rest.find(" failed to register")?;
        (&rest[..cut], rest[cut..].trim_start())
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
mod tests;
