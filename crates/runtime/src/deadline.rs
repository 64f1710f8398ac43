//! The deadline of a gRPC call.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// Returns how long the caller waits: the metadata `grpc-timeout`, which has one to eight digits and a unit (gRPC over
/// HTTP/2, "Timeout"). `None` if the metadata is absent or malformed.
pub fn of(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn timeouts_are_parsed_as_grpc_over_http2_defines_them() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            of(&metadata)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        for bad in ["", "5", "S", "123456789S", "-1S", "1.5S", "5x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(of(&MetadataMap::new()), None);
    }
}
