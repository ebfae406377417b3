//! Watches: a place in a collection's changes, and the events that follow from it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::machine::{Machine, served};
use super::read::parse_version;
use super::resource::EVENTS;
use super::selector::Selector;
use super::status::ApiError;
use super::target::Target;

/// One line of a watch.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    pub kind: &'static str,
    /// The object.
    pub object: Value,
}

/// A watch: which changes were delivered, which objects are meant.
#[derive(Debug)]
pub struct Cursor {
    target: Target,
    selector: Selector,
    after: u64,
    bookmarks: bool,
    /// Synthetic events for what was there at the beginning.
    initial: VecDeque<WatchEvent>,
}

/// The query of a watch.
#[derive(Debug, Clone, Default)]
pub struct WatchQuery {
    /// Which objects.
    pub selector: Selector,
    /// Version after which to begin; absent or `0` for now, with what is there as ADDED.
    pub version: Option<String>,
    /// Send bookmarks.
    pub bookmarks: bool,
    /// Begin with what is there, and a bookmark after it.
    pub initial_events: bool,
}

impl Machine {
    /// Begins a watch. A version that is too old shows in the first `poll`.
    pub fn watch(&self, target: Target, query: WatchQuery) -> Result<Cursor, ApiError> {
        let asked = query
            .version
            .as_deref()
            .filter(|version| !version.is_empty());
        let after = match asked {
            // Upstream answers 500 to a watch where a list gets 400.
            Some(text) => parse_version(text).map_err(ApiError::internal)?,
            None => 0,
        };
        let bookmarks = query.bookmarks && target.resource.collection != EVENTS;
        let mut cursor = Cursor {
            target,
            selector: query.selector,
            after,
            bookmarks,
            initial: VecDeque::new(),
        };
        if after == 0 || query.initial_events {
            cursor.after = self.version();
            cursor.initial = self.present(&cursor);
            if bookmarks && (asked.is_some() || query.initial_events) {
                let mut last = cursor.bookmark(self.version());
                let annotations = json!({"k8s.io/initial-events-end": "true"});
                last.object["metadata"]["annotations"] = annotations;
                cursor.initial.push_back(last);
            }
        }
        Ok(cursor)
    }

    fn present(&self, cursor: &Cursor) -> VecDeque<WatchEvent> {
        let resource = &cursor.target.resource;
        let namespace = Some(cursor.target.namespace.as_str()).filter(|name| !name.is_empty());
        self.store
            .list(&resource.collection, namespace)
            .map(|(_, stored)| served(resource, &stored.object))
            .filter(|object| cursor.selector.matches(object))
            .map(|object| WatchEvent {
                kind: "ADDED",
                object,
            })
            .collect()
    }

    /// The next events, at most `max`; none when nothing new happened.
    ///
    /// Fails with 410 when changes after the cursor are forgotten.
    pub fn poll(&self, cursor: &mut Cursor, max: usize) -> Result<Vec<WatchEvent>, ApiError> {
        let mut events: Vec<WatchEvent> = Vec::new();
        while events.len() < max {
            match cursor.initial.pop_front() {
                Some(event) => events.push(event),
                None => break,
            }
        }
        let collection = cursor.target.resource.collection.clone();
        let mut reached = self.version().max(cursor.after);
        for change in self.store.changes_after(&collection, cursor.after)? {
            if events.len() >= max {
                reached = cursor.after;
                break;
            }
            cursor.after = change.version;
            if cursor.target.namespace.is_empty() || change.key.0 == cursor.target.namespace {
                let (before, after) = (change.before.as_ref(), change.after.as_ref());
                events.extend(cursor.event(before, after, change.version));
            }
        }
        cursor.after = reached;
        Ok(events)
    }
}

impl Cursor {
    /// Whether bookmarks were asked for and this resource has them.
    pub fn wants_bookmarks(&self) -> bool {
        self.bookmarks
    }

    /// A bookmark at the version up to which this watch has seen everything.
    pub fn bookmark_now(&self) -> WatchEvent {
        self.bookmark(self.after)
    }

    fn bookmark(&self, version: u64) -> WatchEvent {
        let resource = &self.target.resource;
        let object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
        });
        WatchEvent {
            kind: "BOOKMARK",
            object,
        }
    }

    fn event(
        &self,
        before: Option<&Arc<Value>>,
        after: Option<&Arc<Value>>,
        version: u64,
    ) -> Option<WatchEvent> {
        let resource = &self.target.resource;
        // Copied only where it is sent: most changes are of no interest to most watches. Events are
        // stored in another form than some versions show, so their copy comes first.
        let selected = |state: Option<&Arc<Value>>| match state {
            Some(state) if resource.collection == EVENTS => {
                self.selector.matches(&served(resource, state))
            }
            Some(state) => self.selector.matches(state),
            None => false,
        };
        let (kind, state) = match (selected(before), selected(after)) {
            (false, true) => ("ADDED", after),
            (true, true) => ("MODIFIED", after),
            (true, false) => ("DELETED", before),
            (false, false) => return None,
        };
        let mut object = served(resource, state?);
        if kind == "DELETED" {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        Some(WatchEvent { kind, object })
    }
}
