//! The server's sockets: HTTP requests to the machine, its answers back.

mod respond;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use self::respond::{json_response, plain_response, refusal, written_response};
use super::decode;
use super::delete::{DeleteOptions, check_propagation};
use super::discovery;
use super::machine::Machine;
use super::request::{Params, View, is_yaml, media_type, unknown_format, view};
use super::resource::NAMESPACES;
use super::route::{ObjectPath, Route};
use super::shared::Shared;
use super::status::{ApiError, Cause};
use super::stream;
use super::target::Target;
use super::write::{WriteOptions, Written};
use crate::domain::time::Timestamp;

/// Longest request body; upstream's limit.
const BODY_BYTES_MAX: usize = 3 << 20;

/// The routes; every path is taken apart by `Route`.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.running().await;
    let (parts, body) = request.into_parts();
    respond(&shared, &parts, body)
        .await
        .unwrap_or_else(|error| refusal(&error))
}

async fn respond(shared: &Arc<Shared>, parts: &Parts, body: Body) -> Result<Response, ApiError> {
    let params = Params::of(&parts.uri);
    let path = match Route::parse(parts.uri.path()) {
        Route::Objects(path) => path,
        route => return fixed(shared, &route, &params),
    };
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let message = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
        ApiError::new(413, "RequestEntityTooLarge", message)
    })?;
    let call = Call {
        parts,
        params,
        body,
        view: view(&parts.headers)?,
    };
    let target = shared.with(|machine, _| target(machine, &path))?;
    let is_watch = path.watch || (call.params.is("watch") && target.name.is_empty());
    if parts.method == Method::GET && is_watch {
        return stream::watch(shared, target, &call.params, call.view);
    }
    match parts.method {
        Method::GET if target.name.is_empty() => {
            let query = call.params.list(&target.resource)?;
            let list = shared.with(|machine, _| machine.list(&target, &query))?;
            Ok(json_response(StatusCode::OK, &call.view.list(list)))
        }
        Method::GET => {
            let object = shared.with(|machine, _| machine.get(&target))?;
            Ok(json_response(StatusCode::OK, &call.view.object(object)))
        }
        Method::DELETE => delete(shared, &target, &call),
        Method::POST | Method::PUT | Method::PATCH => {
            let written = write(shared, &target, &call)?;
            Ok(written_response(written, call.view))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// A request to objects, its body read.
struct Call<'a> {
    parts: &'a Parts,
    params: Params,
    body: Bytes,
    view: View,
}

impl Call<'_> {
    fn options(&self, kind: &str, now: Timestamp) -> Result<WriteOptions, ApiError> {
        self.params.write(kind, &self.parts.headers, now)
    }
}

fn target(machine: &Machine, path: &ObjectPath) -> Result<Target, ApiError> {
    let version = &path.group_version;
    let resource = machine
        .registry()
        .by_path(&version.group, &version.version, &path.plural)?;
    if !resource.namespaced && !path.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    Ok(Target {
        resource,
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        subresource: path.subresource.clone(),
    })
}

fn write(shared: &Shared, target: &Target, call: &Call<'_>) -> Result<Written, ApiError> {
    let resource = &target.resource;
    let on_collection = target.name.is_empty();
    let nowhere = resource.namespaced && target.namespace.is_empty();
    let is_create = call.parts.method == Method::POST;
    if !target.is_served() || (is_create && target.is_status()) {
        return Err(target.not_found());
    }
    if is_create != on_collection || nowhere {
        return Err(ApiError::method_not_allowed());
    }
    let headers = &call.parts.headers;
    if is_create || call.parts.method == Method::PUT {
        let body = decode::object(&call.body, is_yaml(headers)?, &resource.kind)?;
        return shared.change(|machine, now| {
            if is_create {
                machine.create(target, body, &call.options("CreateOptions", now)?)
            } else {
                machine.update(target, body, &call.options("UpdateOptions", now)?)
            }
        });
    }
    match media_type(headers).as_str() {
        "application/merge-patch+json" => {
            let patch = decode::patch(&call.body)?;
            shared.change(|machine, now| {
                let options = call.options("PatchOptions", now)?;
                machine.patch(target, |object| merge(object, &patch), &options)
            })
        }
        "application/json-patch+json" => {
            let patch = decode::patch(&call.body)?;
            shared.change(|machine, now| {
                let options = call.options("PatchOptions", now)?;
                machine.patch(target, |object| step_by_step(object, patch), &options)
            })
        }
        "application/apply-patch+yaml" => {
            if call.params.get("fieldManager").is_none() {
                let cause = Cause::required("fieldManager", "is required for apply patch");
                return Err(ApiError::invalid_option("PatchOptions", cause));
            }
            let body = decode::applied(&call.body)?;
            shared.change(|machine, now| {
                machine.apply(target, body, &call.options("PatchOptions", now)?)
            })
        }
        "application/strategic-merge-patch+json" => Err(unknown_format(
            "application/json-patch+json, application/merge-patch+json, \
             application/apply-patch+yaml",
        )),
        _ => {
            let error = ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            Err(ApiError {
                details: Some(json!({})),
                ..error
            })
        }
    }
}

/// RFC 7396.
pub(super) fn merge(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("error decoding patch: not an object"));
    }
    json_patch::merge(object, patch);
    Ok(())
}

/// RFC 6902.
fn step_by_step(object: &mut Value, patch: Value) -> Result<(), ApiError> {
    if !patch.is_array() {
        return Err(ApiError::bad_request("error decoding patch: not an array"));
    }
    let impossible = || {
        let message = "the server rejected our request due to an error in our request";
        ApiError {
            details: Some(json!({})),
            ..ApiError::new(422, "Invalid", message)
        }
    };
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|_| impossible())?;
    json_patch::patch(object, &patch).map_err(|_| impossible())
}

fn delete(shared: &Shared, target: &Target, call: &Call<'_>) -> Result<Response, ApiError> {
    let body = if call.body.is_empty() {
        Value::Null
    } else {
        decode::patch(&call.body)?
    };
    let mut options = DeleteOptions::from_body(&body);
    options.dry_run |= call.params.dry_run("DeleteOptions")?;
    if let Some(policy) = call.params.get("propagationPolicy") {
        options.propagation = Some(policy.to_owned());
    }
    check_propagation(options.propagation.as_deref())?;
    if target.name.is_empty() && target.resource.collection == NAMESPACES {
        return Err(ApiError::method_not_allowed());
    }
    let answer = if target.name.is_empty() {
        let selector = call.params.selector(&target.resource)?;
        shared.change(|machine, now| machine.delete_all(target, selector, now))?
    } else {
        shared.change(|machine, now| machine.delete(target, &options, now))?
    };
    Ok(json_response(StatusCode::OK, &answer))
}

/// Answers that no object is needed for.
fn fixed(shared: &Shared, route: &Route, params: &Params) -> Result<Response, ApiError> {
    let document = match route {
        Route::Version => discovery::version(),
        Route::Health(check) => return health(check.as_deref(), params.has("verbose")),
        Route::CoreVersions => discovery::core_versions(),
        Route::Groups => shared.with(|machine, _| Ok(discovery::groups(machine.registry())))?,
        Route::Group(name) => {
            shared.with(|machine, _| discovery::one_group(machine.registry(), name))?
        }
        Route::Resources(place) => shared.with(|machine, _| {
            discovery::resources(machine.registry(), &place.group, &place.version)
        })?,
        Route::Objects(_) | Route::Unknown => return Err(ApiError::no_such_path()),
    };
    Ok(json_response(StatusCode::OK, &document))
}

fn health(check: Option<&str>, verbose: bool) -> Result<Response, ApiError> {
    match check {
        None if verbose => Ok(plain_response(
            StatusCode::OK,
            "[+]ping ok\nhealthz check passed\n",
        )),
        None | Some("ping") => Ok(plain_response(StatusCode::OK, "ok")),
        Some(_) => Err(ApiError::no_such_path()),
    }
}
