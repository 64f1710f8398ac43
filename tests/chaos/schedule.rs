//! What fails, when and for how long: all of it said by the seed before anything begins.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::dice::Dice;

pub(crate) const VALIDATORS: usize = 4;
pub(crate) const ADMINS: usize = 2;

/// What a fault befalls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Validator(usize),
    Admin(usize),
    /// A validator's way to an admin.
    Way(usize, usize),
    /// An admin's way to the database.
    DatabaseWay(usize),
    Database,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL; a new process on the same addresses afterwards.
    Kill,
    /// SIGSTOP; SIGCONT afterwards.
    Stop,
    /// Connections end, and none can be made.
    Cut,
    /// Nothing arrives in either direction; it all does afterwards.
    Silence,
    /// Nothing arrives at the server; afterwards the connections turn out to be dead.
    HalfOpenUp,
    /// Nothing arrives at the client; afterwards the connections turn out to be dead.
    HalfOpenDown,
    /// Everything arrives later.
    Delay(Duration),
    /// Connections end by RST.
    Reset,
    /// PostgreSQL is stopped as an operator does it, and started afterwards.
    Restart,
    /// PostgreSQL stops in the middle of what it does, and is started afterwards.
    Crash,
}

/// The kinds of faults, as they are counted.
pub(crate) const KINDS: [&str; 8] =
    ["kill", "stop", "cut", "silence", "half-open", "delay", "reset", "database restart"];

/// One fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
}

/// What befalls one target, one after the other; what befalls several may overlap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lane {
    pub(crate) target: Target,
    pub(crate) events: Vec<Event>,
}

/// A fault that may be drawn, and for how many milliseconds: from, to below.
type Card = (Fault, u64, u64);

/// As many short stops as long ones.
const VALIDATOR: [Card; 6] = [
    (Fault::Stop, 100, 300),
    (Fault::Stop, 300, 1_000),
    (Fault::Stop, 1_000, 3_000),
    (Fault::Stop, 3_000, 15_000),
    (Fault::Kill, 0, 200),
    (Fault::Kill, 200, 1_500),
];

/// Two are so long that the other admin strikes this one off.
const ADMIN: [Card; 5] = [
    (Fault::Stop, 100, 1_000),
    (Fault::Stop, 1_000, 3_000),
    (Fault::Stop, 6_000, 15_000),
    (Fault::Kill, 0, 1_500),
    (Fault::Kill, 3_000, 6_000),
];

/// For delays see [`draw`].
const WAY: [Card; 6] = [
    (Fault::Cut, 100, 3_000),
    (Fault::Silence, 100, 3_000),
    (Fault::HalfOpenUp, 100, 3_000),
    (Fault::HalfOpenDown, 100, 3_000),
    (Fault::Delay(Duration::ZERO), 500, 4_000),
    (Fault::Reset, 0, 1),
];

const DATABASE: [Card; 2] = [(Fault::Restart, 0, 1_500), (Fault::Crash, 0, 1_500)];

/// In each minute all is well for a while but that one admin is away, and for so long that the other strikes it off: only
/// then is it acknowledgements alone that a deactivation returns by.
const LULL: Range<Duration> = Duration::from_secs(43)..Duration::from_secs(52);
const AWAY: Event = Event { at: Duration::from_secs(44), fault: Fault::Stop, lasts: Duration::from_millis(7_900) };
const WHO_IS_AWAY: Target = Target::Admin(1);
const MINUTE: Duration = Duration::from_secs(60);

impl Fault {
    /// Which of [`KINDS`] it is.
    pub(crate) const fn kind(self) -> usize {
        match self {
            Self::Kill => 0,
            Self::Stop => 1,
            Self::Cut => 2,
            Self::Silence => 3,
            Self::HalfOpenUp | Self::HalfOpenDown => 4,
            Self::Delay(_) => 5,
            Self::Reset => 6,
            Self::Restart | Self::Crash => 7,
        }
    }
}

impl Target {
    fn all() -> Vec<Self> {
        let mut all: Vec<_> = (0..VALIDATORS).map(Self::Validator).collect();
        all.extend((0..ADMINS).map(Self::Admin));
        all.extend((0..VALIDATORS).flat_map(|v| (0..ADMINS).map(move |a| Self::Way(v, a))));
        all.extend((0..ADMINS).map(Self::DatabaseWay));
        all.push(Self::Database);
        all
    }

    /// What may befall it, and how long it rests before the next, in milliseconds: admins and the database for longer,
    /// or nobody could be asked to return in time.
    const fn deck(self) -> (&'static [Card], u64, u64) {
        match self {
            Self::Validator(_) => (&VALIDATOR, 1_000, 6_000),
            Self::Admin(_) => (&ADMIN, 5_000, 12_000),
            Self::Way(..) => (&WAY, 1_000, 6_000),
            Self::DatabaseWay(_) => (&WAY, 6_000, 12_000),
            Self::Database => (&DATABASE, 12_000, 20_000),
        }
    }

    /// The admins that cannot be held to anything meanwhile.
    pub(crate) fn disturbs(self) -> Vec<usize> {
        match self {
            Self::Validator(_) | Self::Way(..) => Vec::new(),
            Self::Admin(admin) | Self::DatabaseWay(admin) => vec![admin],
            Self::Database => (0..ADMINS).collect(),
        }
    }
}

/// All that befalls everything within `length`. A longer one begins in the same way.
pub(crate) fn schedule(seed: u64, length: Duration) -> Vec<Lane> {
    let lane = |(n, target)| Lane { target, events: events(target, &mut Dice::of(seed, n), length) };
    (0..).zip(Target::all()).map(lane).collect()
}

fn events(target: Target, dice: &mut Dice, length: Duration) -> Vec<Event> {
    let (deck, rest, most) = target.deck();
    let (mut events, mut at, mut left) = (Vec::new(), Duration::ZERO, VecDeque::new());
    loop {
        if left.is_empty() {
            // Each once before any comes again, so that no run goes without one.
            let mut order = deck.to_vec();
            dice.shuffle(&mut order);
            left.extend(order);
        }
        let Some(card) = left.pop_front() else { return events };
        let mut begins = at + Duration::from_millis(dice.between(rest, most));
        let (fault, lasts) = draw(card, target, dice);
        if let Some(minute) = lull_between(at, begins + lasts) {
            if target == WHO_IS_AWAY && minute + AWAY.at + AWAY.lasts <= length {
                events.push(Event { at: minute + AWAY.at, ..AWAY });
            }
            begins = minute + LULL.end + Duration::from_millis(dice.between(0, 1_000));
        }
        if begins + lasts > length {
            return events;
        }
        events.push(Event { at: begins, fault, lasts });
        at = begins + lasts;
    }
}

/// The minute whose lull begins between two moments, of which the first is in no lull.
fn lull_between(from: Duration, to: Duration) -> Option<Duration> {
    let minute = Duration::from_secs(from.as_secs() / MINUTE.as_secs() * MINUTE.as_secs());
    let minute = if from > minute + LULL.start { minute + MINUTE } else { minute };
    (minute + LULL.start < to).then_some(minute)
}

/// A delay of what an admin asks its database adds up over the statements of a transaction.
fn draw((fault, from, to): Card, target: Target, dice: &mut Dice) -> (Fault, Duration) {
    let lasts = Duration::from_millis(dice.between(from, to));
    let longest = if matches!(target, Target::DatabaseWay(_)) { 50 } else { 400 };
    let by = Duration::from_millis(dice.between(5, longest));
    (if matches!(fault, Fault::Delay(_)) { Fault::Delay(by) } else { fault }, lasts)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validator(v) => write!(f, "v{v}"),
            Self::Admin(a) => write!(f, "a{a}"),
            Self::Way(v, a) => write!(f, "v{v}-a{a}"),
            Self::DatabaseWay(a) => write!(f, "a{a}-db"),
            Self::Database => f.write_str("db"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfOpenUp => f.write_str("half-open up"),
            Self::HalfOpenDown => f.write_str("half-open down"),
            Self::Delay(by) => write!(f, "delay of {by:?}"),
            Self::Restart => f.write_str("restart"),
            Self::Crash => f.write_str("crash"),
            other => f.write_str(KINDS.get(other.kind()).copied().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6}", self.target.to_string())?;
        for Event { at, fault, lasts } in &self.events {
            write!(f, " | {:.1} {fault} {:.1}", at.as_secs_f64(), lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything_and_a_longer_run_begins_in_the_same_way() {
        assert_eq!(schedule(7, MINUTE), schedule(7, MINUTE));
        assert_ne!(schedule(7, MINUTE), schedule(8, MINUTE));
        for (short, long) in schedule(7, MINUTE).iter().zip(schedule(7, MINUTE * 10)) {
            assert!(long.events.starts_with(&short.events));
        }
    }

    #[test]
    fn a_minute_of_any_seed_has_every_kind_of_fault_and_ends_them_all() {
        for seed in 0..200 {
            let lanes = schedule(seed, MINUTE);
            let events: Vec<_> = lanes.iter().flat_map(|lane| &lane.events).collect();
            for (kind, name) in KINDS.iter().enumerate() {
                assert!(events.iter().any(|event| event.fault.kind() == kind), "seed {seed} has no {name}");
            }
            assert!(events.iter().all(|event| event.at + event.lasts <= MINUTE));
            assert!(events.len() > 100, "{}", events.len());
        }
    }

    #[test]
    fn in_the_lull_of_each_minute_one_admin_is_away_and_nothing_else_is_wrong() {
        for seed in 0..50 {
            for lane in schedule(seed, MINUTE * 3) {
                for minute in 0..3 {
                    let lull = MINUTE * minute + LULL.start..MINUTE * minute + LULL.end;
                    let touches = |event: &&Event| event.at < lull.end && event.at + event.lasts > lull.start;
                    let found: Vec<_> = lane.events.iter().filter(touches).collect();
                    let away = Event { at: MINUTE * minute + AWAY.at, ..AWAY };
                    let expected = if lane.target == WHO_IS_AWAY { vec![&away] } else { Vec::new() };
                    assert_eq!(found, expected, "seed {seed}, minute {minute}, {}", lane.target);
                }
            }
        }
    }
}
