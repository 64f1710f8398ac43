use std::sync::Arc;

use keyward_domain::{Error, MemberId};
use keyward_proto::admin::{IssueCredentialRequest, IssueCredentialResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(
    app: Arc<App>,
    request: Request<IssueCredentialRequest>,
) -> Result<IssueCredentialResponse, Error> {
    let caller = caller(&request)?;
    let mut request = request.into_inner();
    let id = MemberId::parse_name("name", &request.name)?;
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("IssueCredential", &request_id, &request)?;
    let issued = app.issue_credential(&caller, &id, stamp).await?;
    Ok(IssueCredentialResponse {
        member: Some(convert::member_view(&issued.view)),
        credential: convert::secret(issued.credential.as_ref()),
        credential_name: issued.name.to_string(),
        receipt: Some(convert::receipt(issued.receipt)),
    })
}
