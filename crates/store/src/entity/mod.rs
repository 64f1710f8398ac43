//! The tables, one module each. The migrations, which create them, describe their columns.
#![expect(unreachable_pub, reason = "required by sea-orm's derives; documented in the migrations")]

pub(crate) mod admin_node;
pub(crate) mod change;
pub(crate) mod counter;
pub(crate) mod credential;
pub(crate) mod history_fork;
pub(crate) mod key;
pub(crate) mod key_token;
pub(crate) mod member;
pub(crate) mod project;
pub(crate) mod request;
pub(crate) mod role_binding;
pub(crate) mod setting;
pub(crate) mod withheld_token;
