//! Conversion between protobuf timestamps and the domain's.

use keyward_domain::Timestamp;

/// Returns the protobuf timestamp of the same microsecond.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// Returns the microsecond of a protobuf timestamp, rounded down. `None` outside years 1 to 9999, the range of
/// google.protobuf.Timestamp.
pub fn from_timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !YEARS_1_TO_9999.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    Some(Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_keep_their_microsecond() {
        for micros in [-1_500_001, -1, 0, 1, 1_700_000_000_123_456] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(from_timestamp(&timestamp(time)), Some(time));
        }
        assert_eq!(from_timestamp(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), None);
        assert_eq!(from_timestamp(&prost_types::Timestamp { seconds: 0, nanos: -1 }), None);
    }
}
