//! Answers of the machine as HTTP responses.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use crate::embedded::apiserver::request::View;
use crate::embedded::apiserver::status::ApiError;
use crate::embedded::apiserver::write::Written;

/// The response to a write.
pub(super) fn written_response(written: Written, view: View) -> Response {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = json_response(status, &view.object(written.object));
    for warning in written.warnings {
        let text = format!("299 - {}", Value::String(warning));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// The response for an error.
pub(super) fn refusal(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.plain {
        return plain_response(status, &error.message);
    }
    let mut response = json_response(status, &error.body());
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A JSON response.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    typed_response(status, "application/json", body.to_string())
}

/// A plain-text response.
pub(super) fn plain_response(status: StatusCode, body: &str) -> Response {
    typed_response(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed_response(status: StatusCode, media: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
