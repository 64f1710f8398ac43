use std::borrow::Cow;

/// A rule that a value from outside breaks.
///
/// Parsers of single values return it, because they do not know where the value was: the edge that does, such as the
/// conversion of a gRPC request, attaches the name of the field ([`OnField`](crate::OnField)).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The value does not have the required form: a noun phrase that completes "must be", such as "1 to 32 letters and
    /// digits".
    Form(Cow<'static, str>),
    /// The value is a name that only Keyward gives to keys: that of a default key.
    NotReserved,
}

impl Rule {
    /// The rule as a noun phrase that completes "must be".
    pub fn as_str(&self) -> &str {
        match self {
            Self::Form(text) => text,
            Self::NotReserved => {
                "not of the default key's pattern, {project_id}_default_{digits}, which only Keyward assigns"
            }
        }
    }
}

impl From<&'static str> for Rule {
    fn from(text: &'static str) -> Self {
        Self::Form(Cow::Borrowed(text))
    }
}

impl From<String> for Rule {
    fn from(text: String) -> Self {
        Self::Form(Cow::Owned(text))
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "must be {}", self.as_str())
    }
}

impl std::error::Error for Rule {}
