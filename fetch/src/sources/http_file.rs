//! One file behind an HTTP address.

use ureq::Body as ResponseBody;
use ureq::http::Response as HttpResponse;
use url::Url;

use crate::download::request::{Body, Response};
use crate::http::{Bearer, Client, check_status, header};
use crate::retry::Failure;

/// Requests the file at `url` from byte `from` on; `validator` is that of the partial file.
pub(crate) fn open(
    client: &Client,
    name: &str,
    url: &Url,
    bearer: Option<&Bearer>,
    from: u64,
    validator: Option<&str>,
) -> Result<Response, Failure> {
    let range = format!("bytes={from}-");
    let mut headers = Vec::with_capacity(2);
    if from > 0 {
        headers.push(("Range", range.as_str()));
        headers.extend(validator.map(|validator| ("If-Range", validator)));
    }
    let response = client.get(name, url, &headers, bearer)?;
    let start = match response.status().as_u16() {
        416 if from > 0 => return Ok(Response::EndOfFile),
        206 if range_start(&response) != Some(from) => {
            return Err(Failure::Restart("the server sent another range than the requested one"));
        }
        206 => from,
        _ => 0,
    };
    check_status(name, url, &response)?;
    let found = strong_validator(&response);
    if start > 0 && validator.is_some() && found.is_some() && found.as_deref() != validator {
        return Err(Failure::Restart("the file changed during the download"));
    }
    let is_chunked = header(&response, "transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = response.into_body();
    let total = body.content_length().map(|rest| start + rest);
    // The transfer has a size limit of its own.
    let reader = Box::new(body.into_with_config().limit(u64::MAX).reader());
    Ok(Response::Body(Body { start, total, delimited: total.is_some() || is_chunked, validator: found, reader }))
}

/// Returns the validator for `If-Range`: a strong `ETag`, else the date of the last change (RFC 9110, section 13.1.5).
fn strong_validator(response: &HttpResponse<ResponseBody>) -> Option<String> {
    let etag = header(response, "etag").filter(|etag| !etag.starts_with("W/"));
    etag.or_else(|| header(response, "last-modified")).map(str::to_owned)
}

/// Returns the position of the first byte of a 206 response: the `N` of `Content-Range: bytes N-…`.
fn range_start(response: &HttpResponse<ResponseBody>) -> Option<u64> {
    header(response, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
