//! Which pools and images may be prefetched at all, as an operator says.

use std::collections::BTreeMap;

use crate::domain::image::ImageRef;

/// What happens with a pool's plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// No plan names any image.
    Off,
    /// Plans are made, scored and kept to oneself: the driver asks [`Policy::mode`] before it
    /// publishes.
    Observe,
    /// Plans are published.
    #[default]
    On,
}

/// A `PrefetchPolicy` in the engine's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// For pools that `pools` does not name.
    pub default: Mode,
    /// Per pool.
    pub pools: BTreeMap<String, Mode>,
    /// Where not empty, only images that match one of these.
    pub include: Vec<Pattern>,
    /// Never images that match one of these.
    pub exclude: Vec<Pattern>,
}

/// A glob over a normalised reference: `*` stands for any text, also across slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

// === impl Policy ===

impl Policy {
    /// The mode of a pool.
    #[must_use]
    pub fn mode(&self, pool: &str) -> Mode {
        self.pools.get(pool).copied().unwrap_or(self.default)
    }

    /// Whether an image may be in a plan.
    #[must_use]
    pub fn allows(&self, image: &ImageRef) -> bool {
        let one_of = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(image.as_str()));
        (self.include.is_empty() || one_of(&self.include)) && !one_of(&self.exclude)
    }
}

// === impl Pattern ===

impl Pattern {
    /// From the text in a policy.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else {
            return rest.is_empty();
        };
        for part in middle {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.len() >= last.len() && rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_reference() {
        let matches = |pattern: &str, text| Pattern::new(pattern).matches(text);
        assert!(matches("*", "docker.io/library/nginx:latest"));
        assert!(matches("docker.io/*", "docker.io/library/nginx:latest"));
        assert!(matches("*:latest", "docker.io/library/nginx:latest"));
        assert!(matches("*/nginx:*", "docker.io/library/nginx:latest"));
        assert!(!matches("nginx", "docker.io/library/nginx:latest"));
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        let policy = Policy {
            include: vec![Pattern::new("docker.io/*")],
            exclude: vec![Pattern::new("*secret*")],
            ..Policy::default()
        };
        assert!(policy.allows(&"nginx".parse().unwrap()));
        assert!(!policy.allows(&"secret-thing".parse().unwrap()));
        assert!(!policy.allows(&"quay.io/a/b".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn every_text_matches_itself_with_stars_anywhere(text in "[a-z/:]{0,12}", at in 0..13_usize) {
            let at = at.min(text.len());
            let starred = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(Pattern::new(starred).matches(&text));
        }
    }
}
