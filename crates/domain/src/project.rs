use serde::{Deserialize, Serialize};

use crate::id::{MemberId, ProjectId, Uid};
use crate::log::Revision;
use crate::rule::Rule;
use crate::text::check_text;
use crate::time::Timestamp;

/// The tenant that keys belong to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Never reused.
    pub uid: Uid,
    /// Name for display; may be empty.
    pub display_name: String,
    /// The member that created it.
    pub creator: MemberId,
    /// When it was created.
    pub create_time: Timestamp,
    /// The revision that created it. Lists are in this order.
    pub create_revision: Revision,
}

/// A project to create, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectDraft {
    /// The requested id. If `None`, the store allocates the next free number.
    pub id: Option<ProjectId>,
    /// Name for display; may be empty.
    pub display_name: String,
}

impl ProjectDraft {
    /// Checks the fields of a project.
    ///
    /// # Errors
    /// The rule that `display_name` breaks.
    pub fn new(id: Option<ProjectId>, display_name: String) -> Result<Self, Rule> {
        check_text(&display_name, 128)?;
        Ok(Self { id, display_name })
    }
}
