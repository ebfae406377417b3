//! The page of a small replay says everything, safely, and the same every time.

use std::sync::OnceLock;

use crate::domain::image::ImageRef;
use crate::domain::scenario::Header;
use crate::domain::signal::{Fact, PodWanted};
use crate::forecast::model::Model;
use crate::sim::policy::{Policy, Replay, Setting, replay_in};
use crate::sim::report::{Report, page};
use crate::sim::tests::build::{Build, image_name};

/// Names that would be tags.
const NAME: &str = "<b>sale & \"rush\"</b>";

/// The last pod of all is pending for some time before it is bound.
fn pending(mut build: Build, since: f64) -> Build {
    let bound = build
        .signals
        .iter()
        .rev()
        .find_map(|signal| match &signal.fact {
            Fact::PodBound(bound) => Some(bound.clone()),
            _ => None,
        });
    let bound = bound.expect("the last pod is bound");
    let wanted = PodWanted {
        pod: bound.pod,
        owner: None,
        needs: bound.needs,
        unschedulable: true,
    };
    build.push(since, Fact::PodPending(wanted), false);
    build
}

/// A node joins a small cluster for a pending pod of two images.
fn replays() -> Vec<Replay> {
    let play = |name: &str| {
        let build = Build::new()
            .image(1, &[(1, 500), (2, 300)])
            .image(2, &[(1, 500), (3, 900)])
            .node("old", 0.0, 0.0)
            .pod("a", "old", 0.0, &[1])
            .node("<i>new", 10.0, 30.0)
            .pod("<script>", "<i>new", 60.0, &[1, 2]);
        let (header, signals) = pending(build, 12.0).done();
        let header = Header {
            name: name.into(),
            story: "<em>Once</em> upon a time".into(),
            ..header
        };
        let setting = Setting {
            model: Model::default(),
            frontier: true,
            sensitivity: true,
            ..Setting::default()
        };
        replay_in(&header, &signals, &Policy::ALL, &setting, |_| ()).unwrap()
    };
    ["plain", NAME, "third"].map(play).into()
}

fn drawn() -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| {
        let replays = replays();
        page(&replays, &Report::new(&replays, &Policy::ALL))
    })
}

/// Walks over the tags: what is opened is closed, in order. A page that passes is read alike by parsers
/// of HTML and XML.
fn unbalanced(page: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let body = page.strip_prefix("<!doctype html>")?;
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>')?;
        if text.contains('>') && tag != "style" {
            return Some(format!("a bare > after <{tag}>"));
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Some(format!("</{name}>"));
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap_or_default());
        }
        if tag.matches('"').count() % 2 == 1 {
            return Some(format!("<{tag}>"));
        }
    }
    open.pop().map(ToOwned::to_owned)
}

#[test]
fn a_page_names_every_policy_scenario_and_section() {
    for policy in Policy::ALL {
        assert!(drawn().contains(&format!(">{policy}<")), "{policy}");
    }
    for text in [
        "plain",
        "third",
        "<h2>Gain and waste</h2>",
        "<h2>Scenario by scenario</h2>",
        "<h2>Waste against seconds saved</h2>",
        "<h2>How long pods wait</h2>",
        "<h2>Are the probabilities true?</h2>",
        "<h2>One wave, node by node</h2>",
        "5 pulls at once",
        "<dt>Open loop</dt>",
        "<dt>Unused at the end</dt>",
        "<dt>The oracle</dt>",
    ] {
        assert!(drawn().contains(text), "{text}");
    }
}

#[test]
fn names_cannot_become_tags() {
    for tag in ["<b>sale", "<em>Once", "<i>new", "<script"] {
        assert!(!drawn().contains(tag), "{tag}");
    }
    assert!(drawn().contains("&lt;b&gt;sale &amp; &quot;rush&quot;&lt;/b&gt;"));
}

#[test]
fn tags_are_balanced() {
    assert_eq!(unbalanced(drawn()), None);
    assert!(unbalanced("<!doctype html><p><b></p></b>").is_some());
}

#[test]
fn the_same_replays_make_the_same_bytes() {
    let again = replays();
    assert_eq!(page(&again, &Report::new(&again, &Policy::ALL)), drawn());
}

#[test]
fn a_bar_of_the_timeline_tells_image_bytes_reason_and_probability() {
    let image: ImageRef = image_name(1);
    assert!(drawn().contains(&format!("<title>{image}\nAgent")));
    assert!(drawn().contains(
        "\nWhy: pod default/&lt;script&gt; is pending, and the node can take it; probability"
    ));
}

#[test]
fn nothing_comes_from_elsewhere_and_no_number_is_missing() {
    for text in ["http:", "https:", "url(", "@import", "src=", "NaN", "inf "] {
        assert!(!drawn().contains(text), "{text}");
    }
}

#[test]
fn a_page_of_policies_without_forelay_or_of_nothing_is_a_page() {
    let replays = replays();
    let shown = [Policy::Reactive, Policy::LastN];
    let few = page(&replays, &Report::new(&replays, &shown));
    assert_eq!(unbalanced(&few), None);
    assert!(!few.contains("One wave"));
    let none = page(&[], &Report::new(&[], &Policy::ALL));
    assert_eq!(unbalanced(&none), None);
}
