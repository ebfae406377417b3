//! One object that cannot be decoded does not take its whole list with it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object, or what is known of one that could not be decoded.
///
/// kube has the like (`DeserializeGuard`), which first builds a tree of every object; a controller
/// lists 150,000 pods of about 6 kB, of which one is kept. Here the text of one object is only
/// delimited, then decoded straight into `K`: no tree on the way.
#[derive(Clone, Debug)]
pub enum Guarded<K> {
    /// Decoded.
    Good(K),
    /// Not decoded.
    Bad(Box<Broken>),
}

/// An object that could not be decoded.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    /// Name, namespace, uid, version: as far as they are readable. Others are left out.
    pub metadata: ObjectMeta,
    /// The decoder's words, with the place.
    pub reason: String,
}

/// serde_json hands out the text itself to whoever asks for a newtype of this name. Should a later
/// version choose another one, `visit_newtype_struct` below is called instead: slower, not wrong.
const RAW_TEXT: &str = "$serde_json::private::RawValue";

/// Name, namespace, version: enough to say which object it is, and to go on watching after it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Identity {
    metadata: IdentityMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IdentityMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

struct GuardVisitor<K>(PhantomData<K>);

impl<K> Guarded<K> {
    fn broken(reason: &serde_json::Error, identity: serde_json::Result<Identity>) -> Self {
        let meta = identity.unwrap_or_default().metadata;
        Self::Bad(Box::new(Broken {
            metadata: ObjectMeta {
                name: meta.name,
                namespace: meta.namespace,
                uid: meta.uid,
                resource_version: meta.resource_version,
                ..ObjectMeta::default()
            },
            reason: reason.to_string(),
        }))
    }
}

impl<'de, K: DeserializeOwned> Visitor<'de> for GuardVisitor<K> {
    type Value = Guarded<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Guarded<K>, A::Error> {
        let raw = Box::<RawValue>::deserialize(MapAccessDeserializer::new(map))?;
        Ok(match serde_json::from_str(raw.get()) {
            Ok(object) => Guarded::Good(object),
            Err(reason) => Guarded::broken(&reason, serde_json::from_str(raw.get())),
        })
    }

    /// The object comes out of a buffer (an event whose `type` stands after its `object`).
    fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<Guarded<K>, D::Error> {
        let value = Value::deserialize(of)?;
        if !value.is_object() {
            return Err(D::Error::custom("not a Kubernetes object"));
        }
        Ok(match serde_json::from_value(value.clone()) {
            Ok(object) => Guarded::Good(object),
            Err(reason) => Guarded::broken(&reason, serde_json::from_value(value)),
        })
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RAW_TEXT, GuardVisitor(PhantomData))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Good(object) => object.meta(),
            Self::Bad(broken) => &broken.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Good(object) => object.meta_mut(),
            Self::Bad(broken) => &mut broken.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    const GOOD: &str = r#"{"metadata":{"name":"good","resourceVersion":"1"}}"#;
    const BAD: &str = r#"{"metadata":{"name":"bad","resourceVersion":"2","labels":7},"spec":{"containers":"no"}}"#;

    #[test]
    fn a_list_keeps_its_good_objects_beside_a_broken_one() {
        let text = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{GOOD},{BAD},{GOOD}]}}"#
        );
        let list: ObjectList<Guarded<Pod>> = serde_json::from_str(&text).unwrap();
        let good = |g: &&Guarded<Pod>| matches!(g, Guarded::Good(_));
        assert_eq!(list.items.iter().filter(good).count(), 2);
        let Guarded::Bad(broken) = &list.items[1] else {
            panic!("decoded {:?}", list.items[1]);
        };
        assert_eq!(broken.metadata.name.as_deref(), Some("bad"));
        assert_eq!(broken.metadata.resource_version.as_deref(), Some("2"));
        assert!(broken.reason.contains("line"), "{}", broken.reason);
    }

    #[test]
    fn an_event_is_decoded_whichever_member_comes_first() {
        for (object, is_good) in [(GOOD, true), (BAD, false)] {
            for text in [
                format!(r#"{{"type":"ADDED","object":{object}}}"#),
                format!(r#"{{"object":{object},"type":"ADDED"}}"#),
            ] {
                let event: WatchEvent<Guarded<Pod>> = serde_json::from_str(&text).unwrap();
                let WatchEvent::Added(guarded) = event else {
                    panic!("{text}");
                };
                assert_eq!(matches!(guarded, Guarded::Good(_)), is_good, "{text}");
                assert!(guarded.meta().resource_version.is_some(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_object_at_all_is_an_error_of_the_list() {
        assert!(
            serde_json::from_str::<Guarded<Pod>>("[]").is_ok_and(|g| matches!(g, Guarded::Bad(_)))
        );
        assert!(serde_json::from_str::<Guarded<Pod>>("{").is_err());
    }
}
