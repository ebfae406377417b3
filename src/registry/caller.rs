//! What an origin says to somebody else's credential: asked with it, and nothing of it kept.

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};

use crate::domain::image::{Digest, ImageRef};
use crate::registry::error::RegistryError;
use crate::registry::manifest::ACCEPTED;
use crate::registry::request::Ask;
use crate::registry::{Registry, endpoint};

/// Longest challenge that is passed on: Docker Hub's has 150 characters.
const CHALLENGE_MAX: usize = 2_048;

/// An origin's answer to a HEAD for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is there, and this caller may have it.
    Means(Digest),
    /// A `Bearer` challenge (RFC 6750), as the origin wrote it: where a token is to be had.
    Asks(String),
    /// Nothing for this caller, or nothing at all: registries do not say which.
    Refuses,
}

impl Registry {
    /// Asks the image's origin once what the reference means to who sends this `Authorization`; without one,
    /// to nobody in particular, who is not answered for.
    ///
    /// # Errors
    /// [`RegistryError`] when the origin does not answer, or may not be asked.
    pub async fn ask_as(
        &self,
        image: &ImageRef,
        authorization: Option<HeaderValue>,
    ) -> Result<Said, RegistryError> {
        let mut endpoints = endpoint::order(&self.options, image, &[]).into_iter();
        let origin = endpoints.find(|endpoint| endpoint.from == "origin");
        let origin = origin.ok_or_else(|| RegistryError::nowhere(image))?;
        let pinned = image.digest().map(|digest| digest.to_string());
        let reference = pinned.as_deref().or(image.tag()).unwrap_or("latest");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let ask = Ask {
            method: Method::HEAD,
            image,
            url: origin.url(image, "manifests", reference),
            headers,
        };
        let answer = self.requests.once(&ask, authorization).await?;
        said(&answer, &ask.url)
    }
}

fn said(answer: &Response, url: &str) -> Result<Said, RegistryError> {
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        let challenges = answer.headers().get_all(WWW_AUTHENTICATE);
        let texts = challenges.iter().filter_map(|value| value.to_str().ok());
        let mut bearer = texts.filter(|text| is_bearer(text) && text.len() <= CHALLENGE_MAX);
        return Ok(bearer
            .next()
            .map_or(Said::Refuses, |text| Said::Asks(text.to_owned())));
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(RegistryError::unavailable(format!("{url}: {status}")));
    }
    let named = answer.headers().get("docker-content-digest");
    let digest = named.and_then(|digest| digest.to_str().ok()?.parse::<Digest>().ok());
    let digest = digest.filter(|_| status.is_success());
    Ok(digest.map_or(Said::Refuses, Said::Means))
}

fn is_bearer(challenge: &str) -> bool {
    let scheme = challenge.split(' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer")
}
