//! The files of the page, embedded in the program: served compressed, and not at all to a browser that has them.

use std::io::Read as _;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use flate2::{Compression, bufread::GzEncoder};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::blocking::blocking;

/// A file of the page as it is in the program.
struct PageFile {
    name: &'static str,
    media_type: &'static str,
    text: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! page_files {
    ($($name:literal: $media_type:expr),* $(,)?) => {
        &[$(PageFile { name: $name, media_type: $media_type, text: include_bytes!(concat!("page/", $name)) }),*]
    };
}

/// Every file; a test holds the list to the folder.
const FILES: &[PageFile] = page_files! {
    "index.html": HTML,
    "style.css": CSS,
    "icon.svg": SVG,
    "api.js": JS,
    "app.js": JS,
    "changes.js": JS,
    "dialog.js": JS,
    "dom.js": JS,
    "fleet.js": JS,
    "graph.js": JS,
    "limits.js": JS,
    "live.js": JS,
    "overrides.js": JS,
    "pages.js": JS,
    "rules.js": JS,
    "switches.js": JS,
    "user.js": JS,
};

/// A file as it is sent.
struct ServedFile {
    file: &'static PageFile,
    gzip: Bytes,
    /// Of the text; that of the compressed form ends with `-gz`, as the bytes differ.
    digest: String,
}

/// Made when the first browser asks: a process without one spends nothing on it.
static SERVED: OnceCell<Vec<ServedFile>> = OnceCell::const_new();

pub(super) fn routes() -> Router {
    let file = async |Path(name): Path<String>, headers: HeaderMap| file(&name, &headers).await;
    Router::new().route("/page/{*name}", get(file))
}

pub(super) async fn index(headers: &HeaderMap) -> Response {
    file("index.html", headers).await
}

async fn file(name: &str, headers: &HeaderMap) -> Response {
    let served = SERVED.get_or_init(|| blocking(|| FILES.iter().map(compressed).collect())).await;
    match served.iter().find(|served| served.file.name == name) {
        Some(served) => served.answer(headers),
        None => (StatusCode::NOT_FOUND, "the page has no such file\n").into_response(),
    }
}

fn compressed(file: &'static PageFile) -> ServedFile {
    let digest = hex::encode(&Sha256::digest(file.text)[..12]);
    ServedFile { file, gzip: gzip(file.text).into(), digest }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzEncoder::new(text, Compression::best()).read_to_end(&mut out).expect("memory can be read");
    out
}

impl ServedFile {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let all = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let takes_gzip = all(header::ACCEPT_ENCODING).any(accepts_gzip);
        let etag = format!("\"{}{}\"", self.digest, if takes_gzip { "-gz" } else { "" });
        let is_known = all(header::IF_NONE_MATCH).flat_map(|value| value.split(',')).any(|tag| tag.trim() == etag);
        let common = [
            (header::ETAG, etag),
            // It may be kept, and is asked for again: a new release has new files under the same names.
            (header::CACHE_CONTROL, "no-cache".to_owned()),
            (header::VARY, "accept, accept-encoding".to_owned()),
        ];
        if is_known {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let media_type = [(header::CONTENT_TYPE, self.file.media_type)];
        match takes_gzip {
            true => (common, media_type, [(header::CONTENT_ENCODING, "gzip")], self.gzip.clone()).into_response(),
            false => (common, media_type, self.file.text).into_response(),
        }
    }
}

/// Whether `gzip` is named, and not with the weight 0, which forbids it.
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|part| {
        let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
        let is_forbidden = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_forbidden
    })
}
