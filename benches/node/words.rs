//! What the command line asked for.

use anyhow::{Context as _, bail};

/// Parts of the bench, in the order in which they run.
const PARTS: [&str; 6] = ["none", "1gbit", "100mbit", "seen", "memory", "guest"];

/// Images of the issue.
const IMAGES: [&str; 3] = ["py", "jdk", "big"];

/// `quick`, names of parts and images, `runs=5`, `pairs=20`.
#[derive(Debug)]
pub struct Words {
    /// All where none was named.
    parts: Vec<String>,
    pub images: Vec<String>,
    /// Of each delivery and each pull.
    pub runs: usize,
    /// Of pulls with and without a guest.
    pub pairs: usize,
}

// === impl Words ===

impl Words {
    /// Reads the arguments; `--bench` is cargo's own.
    pub fn read(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut parts, mut images) = (Vec::new(), Vec::new());
        let (mut runs, mut pairs) = (None, None);
        for word in words.filter(|word| word != "--bench") {
            let number = |text: &str| text.parse::<usize>().context(word.clone());
            if word == "quick" || IMAGES.contains(&word.as_str()) {
                images.push(word);
            } else if PARTS.contains(&word.as_str()) {
                parts.push(word);
            } else if let Some(text) = word.strip_prefix("runs=") {
                runs = Some(number(text)?.max(1));
            } else if let Some(text) = word.strip_prefix("pairs=") {
                pairs = Some(number(text)?.max(1));
            } else {
                bail!(
                    "{word}: neither a part ({}), an image ({}), `quick`, `runs=N` nor `pairs=N`",
                    PARTS.join(", "),
                    IMAGES.join(", ")
                );
            }
        }
        let quick = images.iter().any(|image| image == "quick");
        if images.is_empty() {
            images = IMAGES.map(str::to_owned).to_vec();
        }
        Ok(Self {
            parts,
            images,
            runs: runs.unwrap_or(if quick { 1 } else { 5 }),
            pairs: pairs.unwrap_or(if quick { 2 } else { 20 }),
        })
    }

    /// Whether a part was asked for.
    pub fn want(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}
