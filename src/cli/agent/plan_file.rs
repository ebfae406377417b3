//! A plan from a file: an object as kubectl prints it, or a list of images.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{NodePrefetch, PoolPrefetch};
use crate::cli::exit::Usage;
use crate::domain::image::{Digest, ImageRef, Platform};
use crate::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::ImageResolver;

/// What may be in the file.
const MEND: &str = "a NodePrefetch, a PoolPrefetch, or {\"images\": [\"nginx:1.27\"]}";

/// `{"images": [..]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    images: Vec<Wish>,
}

/// A reference, with the manifest that it should lead to where that is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Wish {
    Name(ImageRef),
    Exact(Exact),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    image: ImageRef,
    digest: Digest,
}

/// What a file says, before any registry was asked what its references mean.
#[derive(Debug)]
pub enum Written {
    /// An object of the API.
    Plan(Plan),
    /// `{"images": [..]}`, never empty.
    List(List),
}

/// Reads YAML or JSON.
///
/// # Errors
/// When there is no such file; [`Usage`] where it is no plan.
pub fn read(path: &Path) -> anyhow::Result<Written> {
    let named = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(named)?;
    let value: Value = serde_saphyr::from_str(&text)
        .map_err(|e| Usage(format!("{}: neither YAML nor JSON: {e}", path.display())))?;
    let wrong = |what: String| Usage(format!("{}: {what}", path.display()));
    if !value.is_object() {
        return Err(wrong(format!("a plan is an object; write {MEND}")).into());
    }
    let kind = value.get("kind").and_then(Value::as_str);
    Ok(match kind.map(str::to_owned).as_deref() {
        Some("NodePrefetch") => {
            let object: NodePrefetch =
                serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
            let plan = Plan::try_from(&object.spec);
            Written::Plan(plan.map_err(|e| wrong(e.to_string()))?)
        }
        Some("PoolPrefetch") => {
            let object: PoolPrefetch =
                serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
            let plan = Plan::try_from(&object.spec);
            Written::Plan(plan.map_err(|e| wrong(e.to_string()))?)
        }
        Some(other) => {
            return Err(wrong(format!("kind {other} is no plan; write {MEND}")).into());
        }
        None => {
            let list: List =
                serde_json::from_value(value).map_err(|e| wrong(format!("{e}; write {MEND}")))?;
            if list.images.is_empty() {
                let mend = "name at least one, {\"images\": [\"nginx:1.27\"]}";
                return Err(wrong(format!(
                    "`images` is empty: nothing would be brought; {mend}"
                ))
                .into());
            }
            Written::List(list)
        }
    })
}

// === impl Written ===

impl Written {
    /// As a plan; what references mean is asked of `resolver` where the file does not say it. Entries never expire:
    /// whoever asks by hand wants them now.
    ///
    /// # Errors
    /// When a registry does not say what a reference means, or has nothing for the platform.
    pub async fn plan(
        self,
        node: &str,
        platform: &Platform,
        now: Timestamp,
        resolver: &dyn ImageResolver,
    ) -> anyhow::Result<Plan> {
        let mut plan = match self {
            Self::Plan(plan) => plan,
            Self::List(list) => of_list(list, node, platform, now, resolver).await?,
        };
        for entry in &mut plan.entries {
            entry.expires = Timestamp::MAX;
        }
        Ok(plan)
    }
}

async fn of_list(
    list: List,
    node: &str,
    platform: &Platform,
    now: Timestamp,
    resolver: &dyn ImageResolver,
) -> anyhow::Result<Plan> {
    let mut plan = Plan::empty(Target::Node(node.to_owned()), 0, now);
    for wish in list.images {
        let (image, digest, bytes) = match wish {
            Wish::Exact(Exact { image, digest }) => (image, digest, ByteSize(0)),
            Wish::Name(image) => {
                let found = resolver.resolve(&image).await?;
                let fits = found.into_iter().find(|m| m.platform == *platform);
                let fits = fits.with_context(|| format!("{image} has nothing for {platform}"))?;
                let bytes = fits.size();
                (image, fits.digest, bytes)
            }
        };
        plan.entries.push(PlanEntry {
            image,
            digest,
            platform: platform.clone(),
            priority: Priority::Pending,
            reason: Reason::Announced("by hand".into()),
            probability: 1.0,
            bytes,
            deadline: None,
            expires: Timestamp::MAX,
        });
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::domain::image::ImageManifest;
    use crate::port::ResolveError;

    /// Knows one image.
    struct Knows(Digest);

    impl ImageResolver for Knows {
        fn resolve<'a>(
            &'a self,
            image: &'a ImageRef,
        ) -> BoxFuture<'a, Result<Vec<ImageManifest>, ResolveError>> {
            let found = ["arm64", "amd64"].map(|arch| ImageManifest {
                digest: if arch == "amd64" {
                    self.0.clone()
                } else {
                    Digest::from_sha256(&[9; 32])
                },
                platform: Platform::linux(arch),
                layers: Vec::new(),
            });
            let image = image.clone();
            async move {
                if image.tag() == Some("1") {
                    Ok(found.to_vec())
                } else {
                    Err(ResolveError::NotFound { image })
                }
            }
            .boxed()
        }
    }

    async fn plan(text: &str) -> anyhow::Result<Plan> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("plan.yaml");
        std::fs::write(&path, text)?;
        let knows = Knows(Digest::from_sha256(&[7; 32]));
        let amd64 = Platform::linux("amd64");
        let written = read(&path)?;
        written.plan("here", &amd64, Timestamp::ZERO, &knows).await
    }

    #[tokio::test]
    async fn a_name_means_what_its_registry_says_for_this_platform() {
        let plan = plan("images: [nginx:1]").await.unwrap();
        assert_eq!(plan.entries[0].digest, Digest::from_sha256(&[7; 32]));
        assert_eq!(plan.entries[0].expires, Timestamp::MAX);
    }

    #[tokio::test]
    async fn a_digest_in_the_file_is_asked_of_nobody() {
        let digest = Digest::from_sha256(&[3; 32]);
        let text = format!("images:\n- image: nginx:9\n  digest: {digest}\n");
        assert_eq!(plan(&text).await.unwrap().entries[0].digest, digest);
    }

    #[tokio::test]
    async fn what_is_no_plan_is_refused_with_the_file_and_the_mend() {
        for (text, word) in [
            ("kind: Pod", "NodePrefetch"),
            ("images: [nginx:9]", "nginx:9"),
            ("images: 3", "plan.yaml"),
            ("images: 3", "nginx:1.27"),
            ("[]", "a plan is an object"),
            ("[nginx:1]", "{\"images\": [\"nginx:1.27\"]}"),
            ("", "plan.yaml"),
            ("images: []", "`images` is empty"),
            ("a: [", "neither YAML nor JSON"),
        ] {
            let error = format!("{:#}", plan(text).await.unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
