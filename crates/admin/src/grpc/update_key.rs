use std::sync::Arc;

use keyward_domain::{Error, KeyName, KeyUpdate};
use keyward_proto::admin::{Key, UpdateKeyRequest, UpdateKeyResponse};
use keyward_runtime::deadline;
use prost_types::FieldMask;
use tonic::Request;

use crate::app::App;
use crate::grpc::auth::caller;
use crate::grpc::convert;

/// What may be changed, by its path.
const PATHS: [&str; 4] = ["description", "annotations", "expire_time", "scheduled_deactivate_time"];

pub(super) async fn handle(app: Arc<App>, request: Request<UpdateKeyRequest>) -> Result<UpdateKeyResponse, Error> {
    let caller = caller(&request)?;
    let patience = deadline::of(request.metadata());
    let UpdateKeyRequest { key, update_mask } = request.into_inner();
    let key = key.unwrap_or_default();
    let name = KeyName::parse("key.name", &key.name)?;
    app.may_update_key(&caller, &name)?;
    let update = update(&key, update_mask.as_ref())?;
    let (key, receipt) = app.update_key(&caller, &name, &update, &key.etag, patience).await?;
    Ok(UpdateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}

/// What the mask names of the key (AIP-134).
fn update(key: &Key, mask: Option<&FieldMask>) -> Result<KeyUpdate, Error> {
    let named = named(key, mask)?;
    let has = |path: &str| named.contains(&path);
    let instant = |path: &str, time: Option<&prost_types::Timestamp>| {
        if !has(path) {
            return Ok(None);
        }
        time.map(|time| convert::instant(&format!("key.{path}"), time)).transpose().map(Some)
    };
    let update = KeyUpdate {
        description: has("description").then(|| key.description.clone()),
        annotations: has("annotations").then(|| key.annotations.clone()),
        expire_time: instant("expire_time", key.expire_time.as_ref())?,
        scheduled_deactivate_time: instant("scheduled_deactivate_time", key.scheduled_deactivate_time.as_ref())?,
    };
    update.check()?;
    Ok(update)
}

fn named<'a>(key: &Key, mask: Option<&'a FieldMask>) -> Result<Vec<&'a str>, Error> {
    let paths: Vec<&str> = mask.iter().flat_map(|mask| &mask.paths).map(String::as_str).collect();
    if paths.is_empty() {
        let instants = [key.expire_time.is_some(), key.scheduled_deactivate_time.is_some()];
        let set = [!key.description.is_empty(), !key.annotations.is_empty()].into_iter().chain(instants);
        return Ok(PATHS.into_iter().zip(set).filter_map(|(path, set)| set.then_some(path)).collect());
    }
    if paths.contains(&"*") {
        return Ok(PATHS.to_vec());
    }
    if paths.iter().any(|path| !PATHS.contains(path)) {
        return Err(Error::field(
            "update_mask",
            "of description, annotations, expire_time and scheduled_deactivate_time, or \"*\"",
        ));
    }
    Ok(paths)
}
