use tonic::metadata::{Ascii, MetadataValue};

/// `Bearer …` with that credential (RFC 6750 §2.1), marked sensitive so that nothing prints it; `None`: no header can hold
/// it.
pub fn bearer(credential: &str) -> Option<MetadataValue<Ascii>> {
    let text = zeroize::Zeroizing::new(format!("Bearer {credential}"));
    let mut value: MetadataValue<Ascii> = text.parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}
