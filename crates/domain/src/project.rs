use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{MemberId, ProjectId, Uid};
use crate::log::Revision;
use crate::text::check_text;
use crate::time::Timestamp;

/// The tenant that keys belong to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Never reused.
    pub uid: Uid,
    /// What people call it; may be empty.
    pub display_name: String,
    /// Who created it.
    pub creator: MemberId,
    /// When it was created.
    pub create_time: Timestamp,
    /// The revision that created it; lists are in this order.
    pub create_revision: Revision,
}

/// A project that somebody asks for, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectDraft {
    /// The wished id; `None`: the store allocates the next free number.
    pub id: Option<ProjectId>,
    /// What people will call it; may be empty.
    pub display_name: String,
}

impl ProjectDraft {
    /// Checks what came from outside. An empty id asks for an allocated one.
    ///
    /// # Errors
    /// `FIELD_INVALID` on `project_id` or `project.display_name`.
    pub fn parse(id: &str, display_name: String) -> Result<Self, Error> {
        let id = if id.is_empty() { None } else { Some(ProjectId::parse("project_id", id)?) };
        check_text("project.display_name", &display_name, 128)?;
        Ok(Self { id, display_name })
    }
}
