use std::sync::Arc;
use std::time::Duration;

use keyward_domain::{Error, KeyDraft, KeyFilter, KeyId, KeyName, KeyUpdate, OnField, Patch, ProjectId, Revision};
use keyward_proto::admin::key_service_server::KeyService;
use keyward_proto::admin::{
    ActivateKeyRequest, ActivateKeyResponse, CreateKeyRequest, CreateKeyResponse, DeactivateKeyRequest,
    DeactivateKeyResponse, GetKeyRequest, GetKeyResponse, Key, ListKeysRequest, ListKeysResponse, LookupKeyRequest,
    LookupKeyResponse, RevealTokenRequest, RevealTokenResponse, RotateDefaultKeyRequest, RotateDefaultKeyResponse,
    RotateKeyRequest, RotateKeyResponse, UpdateKeyRequest, UpdateKeyResponse, WaitEnforcedRequest,
    WaitEnforcedResponse,
};
use prost_types::FieldMask;

use crate::app::{App, PageRequest};
use crate::grpc::convert;
use crate::grpc::service::{Incoming, service};

/// The fields that UpdateKey can change, by their paths in the mask.
const UPDATABLE: [&str; 4] = ["description", "annotations", "expire_time", "scheduled_deactivate_time"];

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

service!(
    /// `KeyService`.
    KeyApi: KeyService {
        create_key: CreateKeyRequest -> CreateKeyResponse,
        get_key: GetKeyRequest -> GetKeyResponse,
        list_keys: ListKeysRequest -> ListKeysResponse,
        update_key: UpdateKeyRequest -> UpdateKeyResponse,
        rotate_key: RotateKeyRequest -> RotateKeyResponse,
        rotate_default_key: RotateDefaultKeyRequest -> RotateDefaultKeyResponse,
        deactivate_key: DeactivateKeyRequest -> DeactivateKeyResponse,
        activate_key: ActivateKeyRequest -> ActivateKeyResponse,
        reveal_token: RevealTokenRequest -> RevealTokenResponse,
        lookup_key: LookupKeyRequest -> LookupKeyResponse,
        wait_enforced: WaitEnforcedRequest -> WaitEnforcedResponse,
    }
);

async fn create_key(
    app: Arc<App>,
    Incoming { caller, mut message, .. }: Incoming<CreateKeyRequest>,
) -> Result<CreateKeyResponse, Error> {
    let by = caller.on_project(ProjectId::parse_name(&message.parent).on_field("parent")?)?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("CreateKey", &request_id, &message)?;
    let created = app.create_key(&by, draft(by.target.clone(), message)?, stamp).await?;
    Ok(CreateKeyResponse {
        key: Some(convert::key(&app, &created.key)),
        token: convert::secret(created.token.as_ref()),
        receipt: Some(convert::receipt(created.receipt)),
    })
}

async fn get_key(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<GetKeyRequest>,
) -> Result<GetKeyResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let key = app.get_key(&by).await?;
    Ok(GetKeyResponse { key: Some(convert::key(&app, &key)) })
}

async fn list_keys(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<ListKeysRequest>,
) -> Result<ListKeysResponse, Error> {
    let ListKeysRequest { parent, page_size, page_token, filter: text } = message;
    let by = caller.on_project(ProjectId::parse_name(&parent).on_field("parent")?)?;
    let filter = KeyFilter::parse(&text, &by.target).on_field("filter")?;
    let page = app.list_keys(&by, &filter, &text, &PageRequest { size: page_size, token: page_token }).await?;
    let (keys, next_page_token) = convert::page(page, |key| convert::key(&app, key));
    Ok(ListKeysResponse { keys, next_page_token })
}

async fn update_key(
    app: Arc<App>,
    Incoming { caller, timeout, message }: Incoming<UpdateKeyRequest>,
) -> Result<UpdateKeyResponse, Error> {
    let UpdateKeyRequest { key, update_mask } = message;
    let key = key.unwrap_or_default();
    let by = caller.on_key(KeyName::parse(&key.name).on_field("key.name")?)?;
    let update = update(&key, update_mask.as_ref())?;
    let (key, receipt) = app.update_key(&by, &update, &key.etag, timeout).await?;
    Ok(UpdateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}

async fn rotate_key(
    app: Arc<App>,
    Incoming { caller, mut message, .. }: Incoming<RotateKeyRequest>,
) -> Result<RotateKeyResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("RotateKey", &request_id, &message)?;
    let after = message.deactivate_old_after.as_ref();
    let deactivate_old_after = after
        .map(|after| convert::span("deactivate_old_after", after, SECOND..=YEAR, "1 s to 365 days, or absent"))
        .transpose()?;
    let new = KeyId::parse_new(&message.new_key_id).on_field("new_key_id")?;
    let rotated = app.rotate_key(&by, new, deactivate_old_after, stamp).await?;
    Ok(RotateKeyResponse {
        key: Some(convert::key(&app, &rotated.key)),
        token: convert::secret(rotated.token.as_ref()),
        old_key: Some(convert::key(&app, &rotated.old)),
        receipt: Some(convert::receipt(rotated.receipt)),
    })
}

async fn rotate_default_key(
    app: Arc<App>,
    Incoming { caller, timeout, mut message }: Incoming<RotateDefaultKeyRequest>,
) -> Result<RotateDefaultKeyResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let request_id = std::mem::take(&mut message.request_id);
    let stamp = convert::stamp("RotateDefaultKey", &request_id, &message)?;
    let grace = message.grace.as_ref();
    let grace = grace
        .map(|grace| convert::span("grace", grace, Duration::ZERO..=MONTH, "at most 30 days"))
        .transpose()?
        .unwrap_or_default();
    let (key, token, receipt) = app.rotate_default_key(&by, grace, stamp, timeout).await?;
    Ok(RotateDefaultKeyResponse {
        key: Some(convert::key(&app, &key)),
        token: convert::secret(token.as_ref()),
        receipt: Some(convert::receipt(receipt)),
    })
}

async fn deactivate_key(
    app: Arc<App>,
    Incoming { caller, timeout, message }: Incoming<DeactivateKeyRequest>,
) -> Result<DeactivateKeyResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let (key, receipt) = app.deactivate_key(&by, &message.etag, timeout).await?;
    Ok(DeactivateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}

async fn activate_key(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<ActivateKeyRequest>,
) -> Result<ActivateKeyResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let (key, receipt) = app.activate_key(&by, &message.etag).await?;
    Ok(ActivateKeyResponse { key: Some(convert::key(&app, &key)), receipt: Some(convert::receipt(receipt)) })
}

async fn reveal_token(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<RevealTokenRequest>,
) -> Result<RevealTokenResponse, Error> {
    let by = caller.on_key(name(&message.name)?)?;
    let token = app.reveal_token(&by).await?;
    Ok(RevealTokenResponse { token: convert::secret(Some(&token)) })
}

async fn lookup_key(
    app: Arc<App>,
    Incoming { caller, message, .. }: Incoming<LookupKeyRequest>,
) -> Result<LookupKeyResponse, Error> {
    let key = app.lookup_key(&caller.on_platform()?, message.token.trim()).await?;
    Ok(LookupKeyResponse { key: Some(convert::key(&app, &key)) })
}

async fn wait_enforced(
    app: Arc<App>,
    Incoming { timeout, message, .. }: Incoming<WaitEnforcedRequest>,
) -> Result<WaitEnforcedResponse, Error> {
    let receipt = app.wait_enforced(Revision(message.revision), timeout).await?;
    Ok(WaitEnforcedResponse { receipt: Some(convert::receipt(receipt)) })
}

fn name(name: &str) -> Result<KeyName, Error> {
    KeyName::parse(name).on_field("name")
}

fn draft(project: ProjectId, message: CreateKeyRequest) -> Result<KeyDraft, Error> {
    let name = KeyName { project, key: KeyId::parse_new(&message.key_id).on_field("key_id")? };
    let key = message.key.unwrap_or_default();
    let allowed = Key {
        description: key.description.clone(),
        platform: key.platform.clone(),
        expire_time: key.expire_time,
        annotations: key.annotations.clone(),
        ..Default::default()
    };
    convert::refuse_output_only("key", &key, &allowed, "description, platform, expire_time and annotations")?;
    let expire_time = key.expire_time.as_ref().map(|time| convert::instant("key.expire_time", time)).transpose()?;
    KeyDraft::new(name, key.description, &key.platform, expire_time, key.annotations)
        .map_err(|error| error.within("key"))
}

/// The fields of `key` that the mask names (AIP-134).
fn update(key: &Key, mask: Option<&FieldMask>) -> Result<KeyUpdate, Error> {
    let named = named(key, mask)?;
    let has = |path: &str| named.contains(&path);
    let instant = |path: &str, time: Option<&prost_types::Timestamp>| match time {
        _ if !has(path) => Ok(Patch::Keep),
        None => Ok(Patch::Clear),
        Some(time) => convert::instant(&format!("key.{path}"), time).map(Patch::Set),
    };
    let update = KeyUpdate {
        description: has("description").then(|| key.description.clone()),
        annotations: has("annotations").then(|| key.annotations.clone()),
        expire_time: instant("expire_time", key.expire_time.as_ref())?,
        scheduled_deactivate_time: instant("scheduled_deactivate_time", key.scheduled_deactivate_time.as_ref())?,
    };
    update.check().map_err(|error| error.within("key"))?;
    Ok(update)
}

/// The paths that the mask names. Without a mask these are the fields that are set; `*` names all.
fn named<'a>(key: &Key, mask: Option<&'a FieldMask>) -> Result<Vec<&'a str>, Error> {
    let paths: Vec<&str> = mask.iter().flat_map(|mask| &mask.paths).map(String::as_str).collect();
    if paths.is_empty() {
        let instants = [key.expire_time.is_some(), key.scheduled_deactivate_time.is_some()];
        let set = [!key.description.is_empty(), !key.annotations.is_empty()].into_iter().chain(instants);
        return Ok(UPDATABLE.into_iter().zip(set).filter_map(|(path, set)| set.then_some(path)).collect());
    }
    if paths.contains(&"*") {
        return Ok(UPDATABLE.to_vec());
    }
    if paths.iter().any(|path| !UPDATABLE.contains(path)) {
        return Err(Error::field(
            "update_mask",
            "of description, annotations, expire_time and scheduled_deactivate_time, or \"*\"",
        ));
    }
    Ok(paths)
}
