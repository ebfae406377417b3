//! The rules of the page `cloudevents.rs`, one test each.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::signal::{Fact, LoadSample};
use crate::source::rejection::Reason;

const RECEIVED: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "7", "source": "/shop", "subject": "checkout",
        "type": "dev.forelay.load.sampled.v1",
        "time": "2026-11-20T18:00:00Z", "observedtime": "2026-11-20T18:00:01Z",
        "data": {"series": "checkout", "value": 12.5},
    })
}

fn with(change: impl FnOnce(&mut Map<String, Value>)) -> Result<Signal, Rejection> {
    let mut event = event();
    change(event.as_object_mut().unwrap());
    let bytes = serde_json::to_vec(&event).unwrap();
    structured(&bytes, RECEIVED, &Limits::default())
}

fn binary_headers() -> Vec<(&'static str, Option<&'static [u8]>)> {
    vec![
        ("Content-Type", Some(b"application/json")),
        ("CE_SpecVersion", Some(b"1.0")),
        ("ce_id", Some(b"7")),
        ("ce_source", Some(b"/shop")),
        ("ce_type", Some(b"dev.forelay.load.sampled.v1")),
        ("ce_subject", Some(b"checkout")),
        ("ce_time", Some(b"2026-11-20T18:00:00Z")),
        ("ce_observedtime", Some(b"2026-11-20T18:00:01Z")),
        ("ce_traceparent", Some(b"00-1-2-3")),
        ("retries", None),
    ]
}

fn decode(headers: &[(&str, Option<&[u8]>)], value: Option<&[u8]>) -> Result<Signal, Rejection> {
    let message = Message {
        headers,
        value,
        received: RECEIVED,
    };
    message.decode(&Limits::default())
}

const DATA: &[u8] = br#"{"series":"checkout","value":12.5}"#;

#[test]
fn both_modes_and_a_bare_json_value_give_the_same_signal() {
    let whole = serde_json::to_vec(&event()).unwrap();
    let headers = [(
        "Content-Type",
        Some(&b"Application/CloudEvents+JSON; charset=UTF-8"[..]),
    )];
    let structured = decode(&headers, Some(&whole)).unwrap();
    assert_eq!(decode(&[], Some(&whole)).unwrap(), structured);
    assert_eq!(decode(&binary_headers(), Some(DATA)).unwrap(), structured);
    assert_eq!(structured.subject.as_deref(), Some("checkout"));
    let Fact::LoadSampled(LoadSample { value, .. }) = structured.fact else {
        panic!("{structured:?}");
    };
    assert_eq!(value, 12.5);
}

#[test]
fn what_is_encoded_is_decoded_to_the_same_signal() {
    let signal = with(|_| ()).unwrap();
    let sent = encode(&signal);
    let headers = [("content-type", Some(sent.content_type.as_bytes()))];
    assert_eq!(decode(&headers, Some(&sent.value)).unwrap(), signal);
    assert_eq!(sent.key, signal.subject);
}

#[test]
fn an_unknown_version_or_type_is_refused_by_its_own_reason() {
    let version = with(|e| drop(e.insert("specversion".into(), json!("0.3")))).unwrap_err();
    assert_eq!(version.reason(), Reason::UnknownVersion);
    let kind = with(|e| drop(e.insert("type".into(), json!("com.example.x")))).unwrap_err();
    assert_eq!(kind, Rejection::UnknownType("com.example.x".into()));
    let no_data = with(|e| {
        e.insert("type".into(), json!("com.example.x"));
        e.remove("data");
    });
    assert_eq!(no_data.unwrap_err().reason(), Reason::UnknownType);
}

#[test]
fn an_unknown_extension_is_accepted_and_an_unknown_member_of_the_data_is_not() {
    assert!(with(|e| drop(e.insert("traceparent".into(), json!("00-1")))).is_ok());
    let refused = with(|e| {
        e.insert(
            "data".into(),
            json!({"series": "a", "value": 1.0, "colour": 2}),
        );
    });
    let message = refused.unwrap_err().to_string();
    assert!(message.starts_with("data.colour: "), "{message}");
}

#[test]
fn the_place_of_a_wrong_member_is_its_path() {
    let refused = with(|e| {
        e.insert("type".into(), json!("dev.forelay.pod.pending.v1"));
        e.insert(
            "data".into(),
            json!({"pod": {"name": "a/b", "uid": "1"},
                   "needs": {"images": [{"image": "a b", "container": "c"}]}}),
        );
    });
    let message = refused.unwrap_err().to_string();
    assert!(
        message.starts_with("data.needs.images[0].image: "),
        "{message}"
    );
}

#[test]
fn a_missing_time_is_the_other_one_or_the_receipt() {
    let only_time = with(|e| drop(e.remove("observedtime"))).unwrap();
    assert_eq!(only_time.observedtime, only_time.time);
    let only_observed = with(|e| drop(e.insert("time".into(), Value::Null))).unwrap();
    assert_eq!(only_observed.time, only_observed.observedtime);
    assert_eq!(
        only_observed.time.to_string(),
        "2026-11-20T18:00:01.000000Z"
    );
    let neither = with(|e| {
        e.remove("time");
        e.remove("observedtime");
    });
    assert_eq!(neither.unwrap().observedtime, RECEIVED);
}

#[test]
fn missing_empty_and_wrong_attributes_are_named() {
    for (name, value, starts) in [
        ("id", Value::Null, "id: missing"),
        ("source", json!(""), "source: empty"),
        ("id", json!(7), "id: not a text"),
        ("time", json!("yesterday"), "time: `yesterday` is not"),
        ("truth", json!("maybe"), "truth: neither"),
        (
            "datacontenttype",
            json!("text/xml"),
            "datacontenttype: `text/xml`",
        ),
        ("data_base64", json!("e30="), "data_base64: given beside"),
        (
            "id",
            json!("x".repeat(5000)),
            "id: 5000 bytes, at most 2048",
        ),
    ] {
        let message = with(|e| drop(e.insert(name.into(), value)))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(starts), "{message}");
    }
    let headers = [("ce_specversion", Some(&b"1.0"[..]))];
    let message = decode(&headers, Some(b"{}")).unwrap_err().to_string();
    assert_eq!(message, "ce_type: missing");
}

#[test]
fn base64_data_is_read_like_data() {
    let signal = with(|e| {
        e.remove("data");
        e.insert("data_base64".into(), json!(STANDARD.encode(DATA)));
    });
    assert_eq!(signal.unwrap(), with(|_| ()).unwrap());
    let refused = with(|e| {
        e.remove("data");
        e.insert("data_base64".into(), json!("?"));
    });
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("data_base64: ")
    );
}

#[test]
fn a_message_without_value_is_a_tombstone_in_every_mode() {
    assert_eq!(decode(&binary_headers(), None), Err(Rejection::Tombstone));
    assert_eq!(decode(&[], None), Err(Rejection::Tombstone));
}

#[test]
fn a_header_given_twice_is_refused_unless_it_says_the_same() {
    let mut headers = binary_headers();
    headers.push(("Ce_Id", Some(b"7")));
    assert!(decode(&headers, Some(DATA)).is_ok());
    headers.push(("ce_id", Some(b"8")));
    let message = decode(&headers, Some(DATA)).unwrap_err().to_string();
    assert!(message.starts_with("ce_id: given twice"), "{message}");
}

#[test]
fn a_content_type_that_is_no_event_is_named() {
    for content_type in [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "text/plain",
    ] {
        let headers = [("content-type", Some(content_type.as_bytes()))];
        let message = decode(&headers, Some(DATA)).unwrap_err().to_string();
        assert!(message.starts_with("content-type: "), "{message}");
    }
}

#[test]
fn a_value_beyond_the_limit_is_not_even_parsed() {
    let limits = Limits {
        value: 10,
        attribute: 10,
    };
    let refused = structured(b"{{{{{{{{{{{", RECEIVED, &limits).unwrap_err();
    assert_eq!(refused.reason(), Reason::TooLarge);
}

#[test]
fn every_type_of_the_schema_is_read_and_no_other() {
    let schema = serde_json::to_value(schemars::schema_for!(Fact)).unwrap();
    let in_schema: std::collections::BTreeSet<&str> = schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| fact["properties"]["type"]["const"].as_str().unwrap())
        .collect();
    let read = fact::TYPES.iter().copied().collect();
    assert_eq!(in_schema, read);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = cloudevents_structured(&bytes);
        let _ = cloudevents_binary(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_event_makes_the_decoders_panic(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut whole = serde_json::to_vec(&event()).unwrap();
        let place = place.index(whole.len());
        whole[place] = byte;
        let _ = cloudevents_structured(&whole);
        let _ = cloudevents_structured(&whole[..cut.index(whole.len())]);
        let mut packed = b"ce_specversion:1.0\nce_id:7\nce_source:/s\n\
            ce_type:dev.forelay.load.sampled.v1\n\n{\"series\":\"a\",\"value\":1}".to_vec();
        let place = place % packed.len();
        packed[place] = byte;
        let _ = cloudevents_binary(&packed);
    }

    #[test]
    fn any_json_in_the_data_is_read_or_refused_at_a_place(text in "\\PC{0,40}", number in any::<f64>()) {
        let decoded = with(|e| {
            e.insert("data".into(), json!({"series": text, "value": number}));
        });
        match decoded {
            Ok(signal) => prop_assert!(matches!(signal.fact, Fact::LoadSampled(_))),
            Err(rejection) => prop_assert!(rejection.to_string().starts_with("data")),
        }
    }
}
