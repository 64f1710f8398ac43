//! Defaults that `serve` and the operator's commands share.

/// Data directory of `keyward serve`. The operator's commands look for the root credential there.
pub(crate) const DATA_DIR: &str = "keyward-data";

/// Address of the admin: the default listener of `keyward serve` and `keyward admin`, as a URL.
pub(crate) const ADMIN: &str = "http://127.0.0.1:8510";
