//! Image references by distribution's grammar, read in one pass.
//!
//! The grammar is that of `distribution/reference` (regexp.go), and so are the short forms: `nginx` is
//! `docker.io/library/nginx:latest`. oci-spec reads the same by a regular expression: compiled, it takes 4.4 MiB
//! and 50 ms, half of what an idle agent holds and of its start. Here oci-spec is what the tests compare with.

const HUB: &str = "docker.io";
const HUB_OLD: &str = "index.docker.io";
const HUB_OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// Of a repository, in bytes.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is empty")]
    Empty,
    #[error("names of repositories have lower-case letters only")]
    UpperCase,
    #[error(
        "its name is not [registry[:port]/]path, of letters, digits and single separators . _ __ -"
    )]
    Name,
    #[error("its name has more than {NAME_MAX} bytes")]
    NameTooLong,
    #[error("a tag has up to {TAG_MAX} letters, digits, and _ . - not in front")]
    Tag,
    #[error("a digest is sha256:, sha384: or sha512: and all of its hexadecimal digits")]
    Digest,
}

/// The one form of all that mean the same: registry, repository, and tag, digest or both.
pub(super) fn normalised(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is a port's.
    let path = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[path..].find(':') {
        Some(colon) => (&named[..path + colon], Some(&named[path + colon + 1..])),
        None => (named, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if is_registry(host) => (host, rest),
        _ => (HUB, name),
    };
    if repository.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err(Fault::UpperCase);
    }
    if !(is_host(registry) || is_component(registry)) || !repository.split('/').all(is_component) {
        return Err(Fault::Name);
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(Fault::Tag);
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(Fault::Digest);
    }
    let registry = if registry == HUB_OLD { HUB } else { registry };
    let mut whole = String::with_capacity(text.len() + 32);
    whole.push_str(registry);
    if registry == HUB && !repository.contains('/') {
        whole.extend(["/", HUB_OFFICIAL]);
    }
    whole.extend(["/", repository]);
    if whole.len() - registry.len() - 1 > NAME_MAX {
        return Err(Fault::NameTooLong);
    }
    if let Some(tag) = tag.or(digest.is_none().then_some(DEFAULT_TAG)) {
        whole.extend([":", tag]);
    }
    if let Some(digest) = digest {
        whole.extend(["@", digest]);
    }
    Ok(whole)
}

/// Whether what stands before the first slash is a registry, and no part of a path on Docker's.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// `registry.example`, `registry.example:5000`
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        let inside = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        !label.is_empty()
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && is_number(port)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// One part of a path: lower-case letters and digits, with one dot, one or two underscores, or hyphens between.
fn is_component(text: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().copied().is_some_and(is_plain) && bytes.last().copied().is_some_and(is_plain);
    let mut separators = bytes.split(|c| is_plain(*c));
    ends && separators
        .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|c| *c == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|c| is_word(c) || c == b'.' || c == b'-')
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length && digits.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_forms_are_spelt_out() {
        for (short, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("shop/web", "docker.io/shop/web:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("web.example:5000", "docker.io/library/web.example:5000"),
            ("web:5000/a", "web:5000/a:latest"),
        ] {
            assert_eq!(normalised(short).as_deref(), Ok(whole));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, fault) in [
            ("", Fault::Empty),
            ("Nginx", Fault::UpperCase),
            ("REGISTRY/web", Fault::UpperCase),
            ("https://quay.io/web", Fault::Name),
            ("quay.io//web", Fault::Name),
            ("a__b___c", Fault::Name),
            ("web:", Fault::Tag),
            ("web:-1", Fault::Tag),
            ("web@sha256:00", Fault::Digest),
            ("web@md5:00", Fault::Digest),
        ] {
            assert_eq!(normalised(text), Err(fault), "{text}");
        }
        let long = |length| format!("quay.io/{}", "a".repeat(length));
        assert!(normalised(&long(NAME_MAX)).is_ok());
        assert_eq!(normalised(&long(NAME_MAX + 1)), Err(Fault::NameTooLong));
    }

    /// Pieces that references are made of, so that most of what is drawn is nearly one.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zA-Z0-9._:/@-]{1,3}",
            "[a-z0-9]{1,6}",
            prop::sample::select(vec![
                "localhost",
                "index.docker.io",
                "docker.io",
                "library",
                "__",
                "latest"
            ])
            .prop_map(str::to_owned),
            prop::sample::select(vec![".", ":", "/", "/", "@", "-", "_", "A"])
                .prop_map(str::to_owned),
            "@(sha256:[0-9a-fA-F]{63,65}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}|md5:[0-9a-f]{32})",
            ":[0-9]{1,5}",
            ":[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,130}",
        ];
        prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        // Two differences are wanted, as in Go's original: letters beyond ASCII in tags, and capitals in paths
        // that oci-spec took for a host.
        #[test]
        fn every_text_means_what_it_means_to_oci_spec(text in pieces()) {
            let theirs = Reference::try_from(text.as_str()).ok();
            let theirs = theirs.filter(|r| !r.repository().bytes().any(|c| c.is_ascii_uppercase()));
            let theirs = theirs.map(|reference| reference.whole());
            prop_assert_eq!(normalised(&text).ok(), theirs);
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,80}") {
            if let Ok(whole) = normalised(&text) {
                prop_assert_eq!(normalised(&whole), Ok(whole.clone()), "the one form stays as it is");
            }
        }
    }
}
