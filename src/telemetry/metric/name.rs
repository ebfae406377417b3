//! Every metric there is: its name, label, unit and meaning.

/// A row of the table: variant, stem, unit, label, whether it only grows, meaning.
macro_rules! names {
    ($($variant:ident: $stem:literal, $unit:expr, $label:expr, $grows:literal, $help:literal;)*) => {
        /// Names of metrics. The full name is `forelay_<stem>[_<unit>][_total]`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $help] $variant,)*
        }

        impl Name {
            /// All of them, in the order of the reference.
            pub const ALL: [Self; [$($stem),*].len()] = [$(Self::$variant),*];

            /// The name without prefix, unit and `_total`.
            pub const fn stem(self) -> &'static str {
                match self { $(Self::$variant => $stem,)* }
            }

            /// The unit, which comes last in the name.
            pub const fn unit(self) -> Option<&'static str> {
                match self { $(Self::$variant => $unit,)* }
            }

            /// The label that tells its values apart.
            pub const fn label(self) -> Option<&'static str> {
                match self { $(Self::$variant => $label,)* }
            }

            /// Whether it only grows, which adds `_total` to the name.
            pub const fn grows(self) -> bool {
                match self { $(Self::$variant => $grows,)* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

names! {
    AppliedSignals: "applied_signals", None, Some("family"), true,
        "Signals that changed what is known, by family";
    SkippedSignals: "skipped_signals", None, Some("reason"), true,
        "Signals that were skipped, by reason";
    SourceLagSeconds: "source_lag", Some("seconds"), Some("source"), false,
        "Age of the last signal when it was taken in, by source";
    ReachableSources: "reachable_sources", None, Some("source"), false,
        "1 while the source answers (kafka, prometheus), or can (expander)";
    SourceBacklog: "source_backlog", None, Some("source"), false,
        "Messages that the source has and that are not read yet";
    SourceFailures: "source_failures", None, Some("source"), true,
        "Requests to the source that failed, connections that broke";
    RefusedSignals: "refused_signals", None, Some("reason"), true,
        "What Kafka and Prometheus sent and is no signal, doubled or late, by reason";
    ExpanderCalls: "expander_calls", None, Some("outcome"), true,
        "Expander calls by outcome (answered, unreadable, too_large, busy, slow), calls not or not wholly decoded (not_decoded, cut), connections refused (no_tls, too_many_connections)";
    StepSeconds: "step", Some("seconds"), None, false,
        "Time that one look at the whole cluster took";
    SkippedObjects: "skipped_objects", None, Some("kind"), true,
        "Objects of the API server that could not be decoded, by kind";
    FailedWatches: "failed_watches", None, Some("kind"), true,
        "Lists and watches that failed and were begun again, by kind";
    MadePlans: "made_plans", None, Some("target"), true,
        "Plans made, published or not, by target (node, pool)";
    PublishedPlans: "published_plans", None, Some("target"), true,
        "Plans written, by target (node, pool)";
    RefusedWrites: "refused_writes", None, Some("reason"), true,
        "Writes that the API server refused, by reason";
    WaitingWrites: "waiting_writes", None, None, false,
        "Plans that wait to be written";
    WaitingSignals: "waiting_signals", None, None, false,
        "Signals that wait to be taken in";
    Leader: "leader", None, None, false,
        "1 while this replica publishes";
    Epoch: "epoch", None, None, false,
        "The epoch that this replica writes with";
    LoadedModels: "loaded_models", None, Some("outcome"), true,
        "Model files read after the start, by outcome (taken, refused)";
    ModelInForce: "model_in_force", None, Some("digest"), false,
        "1 for the model in force, by the first digits of its file's SHA-256";
    KnownObjects: "known_objects", None, Some("kind"), false,
        "Objects in the indexes, by kind";
    FetchedBytes: "fetched", Some("bytes"), Some("from"), true,
        "Bytes of layers fetched, by where from (cache, peer, origin)";
    FailedFetches: "failed_fetches", None, Some("reason"), true,
        "Fetches that failed, by reason";
    QueuedBlobs: "queued_blobs", None, None, false,
        "Layers that wait to be fetched";
    PresentImages: "present_images", None, None, false,
        "Images put into the runtime that are still there";
    StoredImages: "stored_images", None, None, false,
        "Images that the node's runtime has, whoever brought them, as last listed";
    ImageBytes: "image", Some("bytes"), None, false,
        "Their bytes as they travel, as far as known; layers that they share count for each";
    MirrorRequests: "mirror_requests", None, Some("outcome"), true,
        "Requests to the node's mirror, by outcome (served, remembered, challenged, unknown, moved, away, ...)";
    StoredBytes: "stored", Some("bytes"), None, false,
        "Bytes of verified blobs on disk";
    ServedRequests: "served_requests", None, Some("status"), true,
        "Requests answered, by status";
    ServedBytes: "served", Some("bytes"), None, true,
        "Bytes of blobs and manifests sent to clients";
    UpstreamFetches: "upstream_fetches", None, Some("outcome"), true,
        "Fetches from upstreams, by outcome";
    UpstreamBytes: "upstream", Some("bytes"), None, true,
        "Bytes that came from upstreams";
    EvictedBytes: "evicted", Some("bytes"), None, true,
        "Bytes dropped to stay below the limit";
}

impl Name {
    /// The name as it stands on the page.
    pub fn full(self) -> String {
        let unit = self
            .unit()
            .map_or_else(String::new, |unit| format!("_{unit}"));
        let total = if self.grows() { "_total" } else { "" };
        format!("forelay_{}{unit}{total}", self.stem())
    }
}
