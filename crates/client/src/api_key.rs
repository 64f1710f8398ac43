use keyward_domain::{KeyName, Platform, Uid};
use keyward_proto::validate::ValidateTokenResponse;
use keyward_replica::Facts;
use uuid::Uuid;

/// Whose request it is: the key whose token it presented. The layer puts one into each request that it lets through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKey {
    name: KeyName,
    uid: Uid,
    platform: Platform,
}

impl ApiKey {
    /// The project that the key belongs to, as a bare id. Example: `6666`.
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

    /// The key's UUIDv7, which no other key ever has.
    pub fn uid(&self) -> String {
        self.uid.to_string()
    }

    /// Where the key's token lives. All but [`Platform::Server`] are client keys, which the world can read.
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// `None`: the answer does not name one in a way that this client can read.
    pub(crate) fn told_by(response: &ValidateTokenResponse) -> Option<Self> {
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
