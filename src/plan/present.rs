//! Images that a node has, by whoever says so: its kubelet, its pods, its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::image::ImageRef;
use crate::domain::inventory::NodeInventory;
use crate::domain::time::Timestamp;

/// What is told within so long after a list is not older than the list: events have whole seconds.
const SAME_TIME: Duration = Duration::from_secs(1);

/// Images by which pods of one node start without a pull.
///
/// A node's status lists 50, the largest, and nobody says when one goes. Where an agent lists all of them, its
/// list is the truth, for what is there and for what is not, until somebody saw another image later.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// By name, when that was last said, by the node's clock; [`Timestamp::ZERO`] for what has no time.
    said: BTreeMap<ImageRef, Timestamp>,
    /// When the agent's list was made, and whether it is all there is.
    listed: Option<(Timestamp, bool)>,
    /// Names in it that go with a plan.
    planned: BTreeSet<ImageRef>,
}

impl Present {
    /// What the node's status says at first.
    #[must_use]
    pub fn of_kubelet(images: &[ImageRef]) -> Self {
        let mut present = Self::default();
        present.listed_by_kubelet(images);
        present
    }

    /// What the node's status says; true if that is news. It is half a minute old, or of another day: beside a
    /// list of everything it says nothing, and never for whom an image is there.
    pub fn listed_by_kubelet(&mut self, images: &[ImageRef]) -> bool {
        let mut news = false;
        for image in images {
            news |= !self.planned.contains(image) && self.seen(image, Timestamp::ZERO);
        }
        news
    }

    /// Somebody saw the image there at that time; true if that is news.
    pub fn seen(&mut self, image: &ImageRef, at: Timestamp) -> bool {
        let known_better = self.all().is_some_and(|listed| at + SAME_TIME <= listed);
        if known_better && !self.said.contains_key(image) {
            return false;
        }
        self.say(image, at)
    }

    fn say(&mut self, image: &ImageRef, at: Timestamp) -> bool {
        if let Some(said) = self.said.get_mut(image) {
            *said = at.max(*said);
            return false;
        }
        self.said.insert(image.clone(), at);
        true
    }

    /// What the node's agent listed at that time; true if that is news. A list of a part removes nothing. Names
    /// that go with a plan are the plan's to ask for: they are there, and would not be if it did not name them.
    pub fn listed(&mut self, inventory: &NodeInventory, at: Timestamp) -> bool {
        if self.listed.is_some_and(|(before, _)| at < before) {
            return false;
        }
        self.listed = Some((at, inventory.complete));
        let images = || inventory.images.iter();
        let names = || images().flat_map(|image| &image.names);
        let planned = || images().flat_map(|image| &image.planned);
        self.planned = planned().cloned().collect();
        let there: BTreeSet<&ImageRef> = names().chain(planned()).collect();
        let before = self.said.len();
        self.said.retain(|image, said| {
            let is_there = |name: &ImageRef| there.contains(name);
            let is_there = is_there(image) || by_digest(image).as_ref().is_some_and(is_there);
            // A status does not say for whom an image is there.
            let only_planned = *said == Timestamp::ZERO && self.planned.contains(image);
            let is_gone = inventory.complete && !is_there && *said + SAME_TIME <= at;
            !only_planned && !is_gone
        });
        let mut news = before != self.said.len();
        // The next list is exactly later than this one.
        for name in names() {
            news |= self.say(name, at - SAME_TIME);
        }
        news
    }

    /// Whether a pod that names it so finds it there.
    #[must_use]
    pub fn contains(&self, image: &ImageRef) -> bool {
        let is_there = |name: &ImageRef| self.said.contains_key(name);
        is_there(image) || self.listed.is_some() && by_digest(image).as_ref().is_some_and(is_there)
    }

    /// All of them, by name.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        self.said.keys()
    }

    /// When everything was listed, where everything was.
    fn all(&self) -> Option<Timestamp> {
        self.listed.filter(|(_, all)| *all).map(|(at, _)| at)
    }
}

/// As runtimes record a name that has both: the digest takes the tag's place.
fn by_digest(image: &ImageRef) -> Option<ImageRef> {
    image.tag()?;
    let digest = image.digest()?;
    let name = format!("{}/{}@{digest}", image.registry(), image.repository());
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::Digest;
    use crate::domain::inventory::StoredImage;

    fn image(name: &str) -> ImageRef {
        name.parse().unwrap()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(1_000_000 + secs)
    }

    fn list(secs: u64, names: &[&str], planned: &[&str], complete: bool) -> NodeInventory {
        let named = |names: &[&str]| names.iter().map(|name| image(name)).collect();
        NodeInventory {
            node: "n".into(),
            listed: at(secs),
            images: vec![StoredImage {
                digest: Digest::from_sha256(&[1; 32]),
                names: named(names),
                planned: named(planned),
                bytes: None,
            }],
            complete,
        }
    }

    fn hear(present: &mut Present, inventory: &NodeInventory) -> bool {
        present.listed(inventory, inventory.listed)
    }

    fn has(present: &Present) -> Vec<&str> {
        let names = present.images().map(ImageRef::repository);
        names.map(|name| &name["library/".len()..]).collect()
    }

    #[test]
    fn a_list_of_everything_adds_what_nobody_saw_and_removes_what_only_others_said() {
        let mut present = Present::of_kubelet(&[image("old"), image("web")]);
        present.seen(&image("job"), at(10));
        assert!(hear(&mut present, &list(60, &["web", "small"], &[], true)));
        assert_eq!(has(&present), ["small", "web"]);
        // The status that says otherwise is older, or of another day.
        assert!(!present.listed_by_kubelet(&[image("old")]));
        assert_eq!(has(&present), ["small", "web"]);
        assert!(
            !hear(&mut present, &list(70, &["web", "small"], &[], true)),
            "no news"
        );
    }

    #[test]
    fn a_list_of_a_part_removes_nothing_and_adds_all_the_same() {
        let mut present = Present::of_kubelet(&[image("old")]);
        present.seen(&image("job"), at(10));
        assert!(hear(&mut present, &list(60, &["small"], &[], false)));
        assert_eq!(has(&present), ["job", "old", "small"]);
        assert!(present.listed_by_kubelet(&[image("more")]));
        // What was listed before may be among those that are left out now.
        assert!(!hear(&mut present, &list(70, &["job"], &[], false)));
        assert_eq!(has(&present), ["job", "more", "old", "small"]);
    }

    #[test]
    fn what_somebody_saw_after_the_list_was_made_stays_and_an_older_list_is_not_heard() {
        let mut present = Present::default();
        assert!(hear(&mut present, &list(60, &["web"], &[], true)));
        assert!(
            present.seen(&image("new"), at(60)),
            "a second may be cut off"
        );
        assert!(!hear(&mut present, &list(50, &[], &[], true)));
        assert_eq!(has(&present), ["new", "web"]);
        // Said of a time before: the list knows better.
        assert!(!present.seen(&image("gone"), at(50)));
        assert!(hear(&mut present, &list(90, &["web"], &[], true)));
        assert_eq!(has(&present), ["web"]);
    }

    #[test]
    fn of_two_lists_the_later_one_is_true_however_soon_it_comes() {
        let mut present = Present::default();
        hear(&mut present, &list(60, &["web"], &[], true));
        let mut next = list(60, &[], &[], true);
        next.listed = next.listed + Duration::from_millis(1);
        assert!(hear(&mut present, &next));
        assert_eq!(has(&present), [""; 0]);
    }

    #[test]
    fn names_that_go_with_a_plan_stay_the_plans_until_a_pod_uses_them() {
        let mut present = Present::default();
        assert!(!hear(&mut present, &list(60, &[], &["web"], true)));
        assert!(!present.contains(&image("web")));
        assert!(present.seen(&image("web"), at(70)), "a pod started");
        assert!(!hear(&mut present, &list(80, &[], &["web"], true)));
        assert!(present.contains(&image("web")));
    }

    #[test]
    fn a_status_does_not_say_for_whom_an_image_is_there() {
        // As after a controller's start: the node first, then what its agent says.
        let mut present = Present::of_kubelet(&[image("web"), image("base")]);
        assert!(hear(&mut present, &list(60, &["base"], &["web"], false)));
        assert_eq!(has(&present), ["base"]);
        assert!(!present.listed_by_kubelet(&[image("web")]));
        assert_eq!(has(&present), ["base"]);
    }

    #[test]
    fn a_name_with_tag_and_digest_is_found_by_its_digest() {
        let digest = Digest::from_sha256(&[7; 32]);
        let both = image(&format!("quay.io/a/b:1@{digest}"));
        let pinned = format!("quay.io/a/b@{digest}");
        let mut present = Present::default();
        present.seen(&both, at(10));
        assert!(hear(&mut present, &list(60, &[&pinned], &[], true)));
        assert!(present.contains(&both) && present.contains(&image(&pinned)));
        let mut other = Present::default();
        hear(&mut other, &list(60, &[&pinned], &[], true));
        assert!(other.contains(&both) && !other.contains(&image("quay.io/a/b:1")));
    }
}
