//! The one place where an error becomes a gRPC status, with its google.rpc details. Servers build a `Status` nowhere else, so
//! every status has an ErrorInfo with a reason of the contract.

use std::collections::HashMap;

use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use keyward_domain::{Error, Kind};
use tonic::body::Body;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `domain` of every google.rpc.ErrorInfo.
pub const DOMAIN: &str = "keyward";

/// Returns the gRPC code of a kind of error.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// Renders the result of a call.
///
/// # Errors
/// The status of the error, by [`from_error`].
pub fn respond<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| from_error(&error))
}

/// Renders an error. Its internal detail is logged here, and nowhere else, and is not part of the status.
pub fn from_error(error: &Error) -> Status {
    if let Some(detail) = error.internal_detail() {
        tracing::error!(reason = error.reason().as_str(), detail, "a call failed with an internal error");
    }
    let metadata: HashMap<String, String> =
        error.metadata().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut details = ErrorDetails::with_error_info(error.reason().as_str(), DOMAIN, metadata);
    if !error.violations().is_empty() {
        let violations: Vec<_> = error
            .violations()
            .iter()
            .map(|v| FieldViolation::new(v.field.clone(), format!("must be {}", v.rule)))
            .collect();
        details.set_bad_request(violations);
    }
    if let Some(resource) = error.resource() {
        details.set_resource_info(resource.kind, resource.name.clone(), "", error.to_string());
    }
    if let Some(delay) = error.retry_delay() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(error.reason().kind()), error.to_string(), details)
}

/// Replaces the status of a response by [`Error::request_unreadable`] if tonic made it because it could not read the request.
/// tonic answers INTERNAL or OUT_OF_RANGE then, which operators would take for a defect of the server. Applies to the headers of
/// a unary call and to the trailers of a stream.
pub fn explain_unreadable(mut response: http::Response<Body>) -> http::Response<Body> {
    explain(response.headers_mut());
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                explain(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        }))
    })
}

/// Keyward's own statuses have details, and tonic's have none. A server of tonic makes INTERNAL and OUT_OF_RANGE for an unreadable
/// request only.
fn explain(headers: &mut HeaderMap) {
    let of_tonic = !headers.contains_key(Status::GRPC_STATUS_DETAILS);
    let is_unreadable = |status: &Status| matches!(status.code(), Code::Internal | Code::OutOfRange);
    if of_tonic && let Some(status) = Status::from_header_map(headers).filter(is_unreadable) {
        let own = from_error(&Error::request_unreadable(status.message())).into_http::<()>();
        let fields = own.headers().iter().filter(|(name, _)| *name != header::CONTENT_TYPE);
        for (name, value) in fields {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyward_domain::{KeyName, OnField, Reason};
    use keyward_proto::admin::ErrorReason;

    use super::*;

    #[test]
    fn the_reasons_of_the_domain_and_of_the_contract_are_the_same() {
        let ours: BTreeSet<_> = Reason::ALL.iter().map(|r| format!("ERROR_REASON_{}", r.as_str())).collect();
        let theirs: BTreeSet<_> =
            (1..).map_while(|n| ErrorReason::try_from(n).ok()).map(|r| r.as_str_name().to_owned()).collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn an_invalid_field_is_reported_with_its_name_and_rule() {
        let status = KeyName::parse("x").on_field("name").map_err(|e| from_error(&e)).err();
        let details = status.map(|s| (s.code(), s.get_error_details()));
        let Some((Code::InvalidArgument, details)) = details else { unreachable!("{details:?}") };
        let violations = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
        assert_eq!(violations.first().map(|v| v.field.as_str()), Some("name"));
        assert_eq!(
            details.error_info().map(|i| (i.reason.as_str(), i.domain.as_str())),
            Some(("FIELD_INVALID", DOMAIN))
        );
    }

    #[tokio::test]
    async fn only_a_status_that_tonic_made_for_an_unreadable_request_is_replaced() {
        let headers = |status: Status| {
            let response = explain_unreadable(status.into_http());
            Status::from_header_map(response.headers())
        };
        let replaced = headers(Status::internal("failed to decode"));
        assert_eq!(replaced.as_ref().map(Status::code), Some(Code::InvalidArgument));
        let reason = replaced.and_then(|status| status.get_details_error_info()).map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("REQUEST_UNREADABLE"));
        let ours = headers(from_error(&Error::internal("a defect")));
        assert_eq!(ours.map(|status| status.code()), Some(Code::Internal));
        let unknown_method = headers(Status::unimplemented(""));
        assert_eq!(unknown_method.map(|status| status.code()), Some(Code::Unimplemented));

        let trailers = Status::out_of_range("too large").into_http::<()>().headers().clone();
        let stream = http_body_util::StreamBody::new(tokio_stream::iter([
            Ok::<_, Status>(Frame::data(hyper::body::Bytes::from_static(b"first"))),
            Ok(Frame::trailers(trailers)),
        ]));
        let response = explain_unreadable(http::Response::new(Body::new(stream)));
        let collected = response.into_body().collect().await.map(|body| body.trailers().cloned());
        let status = collected.ok().flatten().and_then(|trailers| Status::from_header_map(&trailers));
        assert_eq!(status.map(|status| status.code()), Some(Code::InvalidArgument));
    }

    #[test]
    fn the_internal_detail_of_an_error_is_not_in_its_status() {
        let status = from_error(&Error::store_unavailable("password=hunter2 at db.internal"));
        assert!(!format!("{status:?}").contains("hunter2"));
        assert!(!String::from_utf8_lossy(status.details()).contains("hunter2"));
        assert!(status.get_error_details().retry_info().is_some());
    }
}
