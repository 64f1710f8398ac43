//! The language of `filter` fields: the part of AIP-160 that joins restrictions by AND.

use std::iter::Peekable;
use std::str::Chars;

use crate::rule::Rule;

/// Length of the longest filter, in bytes.
const MAX_LEN: usize = 512;

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// `field operator value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restriction {
    /// The field to compare.
    pub field: String,
    /// The comparison.
    pub operator: Operator,
    /// The value to compare with, unquoted.
    pub value: String,
}

/// A pattern for text: equal to a value, or beginning with one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TextMatch {
    /// Matches this text only.
    Exact(String),
    /// Matches every text that begins with this one, which stood before the `*`.
    Prefix(String),
}

impl TextMatch {
    /// Parses a pattern: `server_*` is a prefix, a value without a star matches exactly.
    ///
    /// # Errors
    /// The rule, if a star stands anywhere but at the end.
    pub fn parse(value: String) -> Result<Self, Rule> {
        let text = value.strip_suffix('*').unwrap_or(&value);
        if text.contains('*') {
            return Err("with * at the end of a value only".into());
        }
        Ok(if text.len() < value.len() { Self::Prefix(text.to_owned()) } else { Self::Exact(value) })
    }
}

/// Parses a filter. An empty one restricts nothing. Each pair of field and operator may occur once.
///
/// # Errors
/// The rule that `filter` breaks.
pub fn parse(filter: &str) -> Result<Vec<Restriction>, Rule> {
    if filter.len() > MAX_LEN {
        return Err("at most 512 bytes".into());
    }
    // SQLite and PostgreSQL treat a NUL in a text differently.
    if filter.chars().any(char::is_control) {
        return Err("without control characters".into());
    }
    let mut rest = filter.chars().peekable();
    let mut restrictions: Vec<Restriction> = Vec::new();
    skip_spaces(&mut rest);
    while rest.peek().is_some() {
        if !restrictions.is_empty() && word(&mut rest) != "AND" {
            return Err("restrictions joined by AND, such as state = ACTIVE AND name = \"server_*\"".into());
        }
        let next = restriction(&mut rest)?;
        if restrictions.iter().any(|r| r.field == next.field && r.operator == next.operator) {
            return Err("without a field that is restricted twice in the same way".into());
        }
        restrictions.push(next);
    }
    Ok(restrictions)
}

fn restriction(rest: &mut Peekable<Chars<'_>>) -> Result<Restriction, Rule> {
    let field = word(rest);
    let operator = operator(rest);
    let value = value(rest);
    match (field.is_empty(), operator, value) {
        (false, Some(operator), Some(value)) => Ok(Restriction { field, operator, value }),
        _ => {
            Err("made of restrictions such as state = ACTIVE; a value with characters other than letters, digits and \
                  _*/.:- must be in double quotes"
                .into())
        }
    }
}

fn operator(rest: &mut Peekable<Chars<'_>>) -> Option<Operator> {
    let first = rest.next_if(|c| "=<>".contains(*c))?;
    let or_equal = first != '=' && rest.next_if_eq(&'=').is_some();
    skip_spaces(rest);
    Some(match (first, or_equal) {
        ('<', false) => Operator::Less,
        ('<', true) => Operator::AtMost,
        ('>', false) => Operator::Greater,
        ('>', true) => Operator::AtLeast,
        _ => Operator::Equal,
    })
}

/// Reads a value. Returns `None` if there is none, or if its quotes are not closed.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    if rest.next_if_eq(&'"').is_none() {
        return Some(word(rest)).filter(|word| !word.is_empty());
    }
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => text.push(rest.next()?),
            plain => text.push(plain),
        }
    }
    skip_spaces(rest);
    Some(text)
}

/// Reads an unquoted word, which may be empty.
fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "_*/.:-".contains(*c)) {
        word.push(c);
    }
    skip_spaces(rest);
    word
}

fn skip_spaces(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if_eq(&' ').is_some() {}
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn one(field: &str, operator: Operator, value: &str) -> Restriction {
        Restriction { field: field.to_owned(), operator, value: value.to_owned() }
    }

    #[test]
    fn restrictions_are_joined_by_and() {
        assert_eq!(parse("  ").unwrap(), []);
        let read = parse(r#"state=ACTIVE AND  name = "a \"quoted\" AND name" AND time>="2026-11-24T00:00:00Z""#);
        let expected = [
            one("state", Operator::Equal, "ACTIVE"),
            one("name", Operator::Equal, "a \"quoted\" AND name"),
            one("time", Operator::AtLeast, "2026-11-24T00:00:00Z"),
        ];
        assert_eq!(read.unwrap(), expected);
        assert_eq!(parse("time < 5 AND time >= 3").unwrap().len(), 2);
    }

    #[test]
    fn malformed_filters_are_refused() {
        let long = format!("name = {}", "a".repeat(600));
        for bad in [
            "state",
            "state =",
            "= ACTIVE",
            "state ACTIVE",
            "state = ACTIVE name = a",
            "state = ACTIVE OR name = a",
            "state = ACTIVE AND",
            "state = \"ACTIVE",
            "state = a AND state = b",
            "state != ACTIVE",
            "state == ACTIVE",
            "NOT state = ACTIVE",
            "(state = ACTIVE)",
            "ключ = a",
            "name = \"a\0\"",
            long.as_str(),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_may_only_end_a_pattern() {
        let read = |text: &str| TextMatch::parse(text.to_owned());
        assert_eq!(read("server_*").unwrap(), TextMatch::Prefix("server_".to_owned()));
        assert_eq!(read("server").unwrap(), TextMatch::Exact("server".to_owned()));
        assert_eq!(read("*").unwrap(), TextMatch::Prefix(String::new()));
        assert!(read("a*b").is_err() && read("**").is_err());
    }
}
