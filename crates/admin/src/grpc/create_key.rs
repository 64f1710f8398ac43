use std::sync::Arc;

use keyward_domain::{Error, KeyDraft, KeyId, KeyName, ProjectId};
use keyward_proto::admin::{CreateKeyRequest, CreateKeyResponse, Key};
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

pub(super) async fn handle(app: Arc<App>, request: Request<CreateKeyRequest>) -> Result<CreateKeyResponse, Error> {
    let caller = caller(&request)?;
    let mut request = request.into_inner();
    let project = ProjectId::parse_name("parent", &request.parent)?;
    app.may_create_key(&caller, &project)?;
    let request_id = std::mem::take(&mut request.request_id);
    let stamp = convert::stamp("CreateKey", &request_id, &request)?;
    let draft = draft(project, request)?;
    let created = app.create_key(&caller, draft, stamp).await?;
    Ok(CreateKeyResponse {
        key: Some(convert::key(&app, &created.key)),
        token: convert::secret(created.token.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

fn draft(project: ProjectId, request: CreateKeyRequest) -> Result<KeyDraft, Error> {
    let name = KeyName { project, key: KeyId::parse_new("key_id", &request.key_id)? };
    let key = request.key.unwrap_or_default();
    let allowed = Key {
        description: key.description.clone(),
        platform: key.platform.clone(),
        expire_time: key.expire_time,
        annotations: key.annotations.clone(),
        ..Default::default()
    };
    convert::refuse_output_only("key", &key, &allowed, "description, platform, expire_time and annotations")?;
    let expire_time = key.expire_time.as_ref().map(|time| convert::instant("key.expire_time", time)).transpose()?;
    KeyDraft::parse(name, key.description, &key.platform, expire_time, key.annotations)
}
