//! What is known to differ from the recordings, each with its reason.

/// Exchanges that the embedded server answers otherwise, because Forelay never sends them.
/// They are sent all the same: one that comes to agree has to leave this table.
pub const SKIPPED: &[(&str, usize, &str)] = &[
    (
        "server-side-apply",
        13,
        "YAML 1.1 reads the key y as true; Forelay applies JSON",
    ),
    (
        "crd-lifecycle",
        2,
        "the endpoint is open before the create is answered",
    ),
    (
        "crd-lifecycle",
        3,
        "the endpoint is open before the create is answered",
    ),
    (
        "field-selectors",
        12,
        "binding subresource: the player writes pods whole",
    ),
    (
        "field-selectors",
        14,
        "binding subresource: the player writes pods whole",
    ),
    (
        "json-patch",
        3,
        "replace of a missing key: Forelay sends merge patches",
    ),
    (
        "json-patch",
        8,
        "strategic merge: Forelay sends merge patches",
    ),
    (
        "not-found-and-media-types",
        7,
        "protobuf error body: the client speaks JSON",
    ),
    ("owner-references-gc", 13, "the collector writes no Events"),
    ("table-and-metadata", 0, TABLES),
    ("table-and-metadata", 1, TABLES),
    ("table-and-metadata", 2, TABLES),
    ("table-and-metadata", 3, TABLES),
    ("table-and-metadata", 4, TABLES),
    ("table-and-metadata", 8, TABLES),
];

const TABLES: &str = "Tables are for kubectl";
const GO_JSON: &str = "quotes an object with its members in the order of a Go struct";
const GO_ERROR: &str = "quotes the error of Go's JSON parser";
const GO_MAP: &str = "the order of several causes is that of a Go map";
const BUILD: &str = "the build is another one";
const CHECKS: &str = "lists the checks of another program";
const KINDS: &str = "only the kinds that Forelay uses are served";

/// Members that are not compared: (transcript, exchange, beginning of the place, reason).
pub const IGNORED: &[(&str, usize, &str, &str)] = &[
    ("crd-lifecycle", 13, ".message", GO_JSON),
    ("crd-lifecycle", 13, ".details.causes.message", GO_JSON),
    (
        "crd-lifecycle",
        14,
        ".status.conditions",
        "a deleted definition is gone at once",
    ),
    ("crd-validation", 9, ".message", GO_MAP),
    (
        "crd-validation",
        11,
        ".headers.warning",
        "refusals carry no warnings",
    ),
    (
        "discovery-classic",
        0,
        ".serverAddressByClientCIDRs[0].serverAddress",
        BUILD,
    ),
    ("discovery-classic", 1, ".groups.missing", KINDS),
    (
        "discovery-classic",
        1,
        ".groups[autoscaling].versions",
        KINDS,
    ),
    ("discovery-classic", 5, ".resources.missing", KINDS),
    (
        "events",
        5,
        ".details.causes",
        "a name is checked once, not three times",
    ),
    (
        "events",
        5,
        ".message",
        "a name is checked once, not three times",
    ),
    ("field-validation", 9, ".message", GO_JSON),
    ("field-validation", 9, ".details.causes.message", GO_JSON),
    ("health-endpoints", 3, ".body_text", CHECKS),
    ("health-endpoints", 4, ".body_text", CHECKS),
    ("json-patch", 5, ".message", GO_ERROR),
    ("list-limit-continue", 4, ".message", GO_ERROR),
    ("merge-patch", 7, ".message", GO_ERROR),
    ("merge-patch", 8, ".message", GO_JSON),
    ("merge-patch", 8, ".details.causes.message", GO_JSON),
    (
        "owner-references-gc",
        0,
        ".spec",
        "Nodes are played whole, taints and status included",
    ),
    (
        "owner-references-gc",
        0,
        ".status",
        "Nodes are played whole, taints and status included",
    ),
    ("owner-references-gc", 14, ".message", GO_JSON),
    (
        "owner-references-gc",
        14,
        ".details.causes.message",
        GO_JSON,
    ),
    ("version", 0, ".compiler", BUILD),
    ("version", 0, ".gitCommit", BUILD),
    ("version", 0, ".goVersion", BUILD),
    ("version", 1, ".compiler", BUILD),
    ("version", 1, ".gitCommit", BUILD),
    ("version", 1, ".goVersion", BUILD),
    (
        "watch-bookmarks",
        1,
        ".stream[0].object.spec",
        "bookmarks carry metadata alone",
    ),
    (
        "watch-bookmarks",
        1,
        ".stream[1].object.spec",
        "bookmarks carry metadata alone",
    ),
];
