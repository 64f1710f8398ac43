use std::sync::Arc;

use keyward_domain::{Error, KeyName};
use keyward_proto::admin::{RevealTokenRequest, RevealTokenResponse};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<RevealTokenRequest>) -> Result<RevealTokenResponse, Error> {
    let caller = caller(&request)?;
    let name = KeyName::parse("name", &request.get_ref().name)?;
    app.may_reveal_token(&caller, &name)?;
    let token = app.reveal_token(&caller, &name).await?;
    Ok(RevealTokenResponse { token: convert::secret(Some(&token)) })
}
