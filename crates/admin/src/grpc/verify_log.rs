use std::sync::Arc;

use keyward_domain::{Error, Revision};
use keyward_proto::admin::verify_log_response::Finding;
use keyward_proto::admin::{self, VerifyLogRequest, VerifyLogResponse};
use keyward_store::LogHead;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;

pub(super) async fn handle(app: Arc<App>, request: Request<VerifyLogRequest>) -> Result<VerifyLogResponse, Error> {
    let caller = caller(&request)?;
    let known = request.into_inner().known_head.map(|head| to_head(&head)).transpose()?;
    let found = app.verify_log(&caller, known).await?;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let finding =
        |finding: keyward_store::Finding| Finding { place: finding.subject, problem: finding.problem.to_owned() };
    Ok(VerifyLogResponse {
        intact: found.finding_count == 0,
        head: Some(admin::LogHead { revision: found.head.revision.0, chain: hex::encode(found.head.chain) }),
        entries: count(found.entries),
        rows: count(found.rows),
        findings: found.findings.into_iter().map(finding).collect(),
        finding_count: count(found.finding_count),
    })
}

fn to_head(head: &admin::LogHead) -> Result<LogHead, Error> {
    if head.revision < 1 {
        return Err(Error::field("known_head.revision", "1 or more, as an earlier VerifyLog told it"));
    }
    let mut chain = [0; 32];
    hex::decode_to_slice(&head.chain, &mut chain)
        .map_err(|_| Error::field("known_head.chain", "64 hexadecimal digits, as an earlier VerifyLog told them"))?;
    Ok(LogHead { revision: Revision(head.revision), chain })
}
