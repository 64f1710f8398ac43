use keyward_domain::{KeyName, Platform, Uid};
use keyward_proto::validate::ValidateTokenResponse;
use keyward_replica::Facts;
use uuid::Uuid;

/// The key whose token a request presented. The layer puts it into the extensions of each request that it lets through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKey {
    name: KeyName,
    uid: Uid,
    platform: Platform,
}

impl ApiKey {
    /// The key's project, as a bare id. Example: `6666`.
    pub fn project(&self) -> &str {
        self.name.project.as_str()
    }

    /// The key's name within its project. Example: `server_prod`.
    pub fn key(&self) -> &str {
        self.name.key.as_str()
    }

    /// The key's resource name. Example: `projects/6666/keys/server_prod`.
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    /// The key's UUIDv7, unique for ever.
    pub fn uid(&self) -> String {
        self.uid.to_string()
    }

    /// Where the key's token is stored. All platforms except [`Platform::Server`] mean client keys, which are public.
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// Returns `None` if the response has no key, or one that this client cannot parse.
    pub(crate) fn from_response(response: &ValidateTokenResponse) -> Option<Self> {
        Some(Self {
            name: KeyName::parse(&response.key).ok()?,
            uid: response.key_uid.parse::<Uuid>().ok()?.into(),
            platform: Platform::from_name(&response.platform)?,
        })
    }
}

impl From<&Facts> for ApiKey {
    fn from(facts: &Facts) -> Self {
        Self { name: facts.name.clone(), uid: facts.uid, platform: facts.platform }
    }
}
