//! The schedule of faults: which target fails, when and for how long. The seed determines it before the run begins.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::dice::Dice;

pub(crate) const VALIDATORS: usize = 4;
pub(crate) const ADMINS: usize = 2;

/// The target of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Validator(usize),
    Admin(usize),
    /// The network between a validator and an admin.
    Link(usize, usize),
    /// The network between an admin and the database.
    DatabaseLink(usize),
    Database,
}

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL, and then a new process on the same addresses.
    Kill,
    /// SIGSTOP, and then SIGCONT.
    Stop,
    /// Connections are broken, and new ones are refused.
    Cut,
    /// Nothing is delivered in either direction until the fault ends.
    Silence,
    /// Nothing is delivered to the server; at the end, the connections are reset.
    HalfOpenUp,
    /// Nothing is delivered to the client; at the end, the connections are reset.
    HalfOpenDown,
    /// Everything is delivered with a delay.
    Delay(Duration),
    /// Connections are ended by RST.
    Reset,
    /// PostgreSQL is shut down as an operator does, and started again.
    Restart,
    /// PostgreSQL is aborted, and started again.
    Crash,
}

/// The kinds of faults that are counted.
pub(crate) const KINDS: [&str; 8] =
    ["kill", "stop", "cut", "silence", "half-open", "delay", "reset", "database restart"];

/// One fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
}

/// The faults of one target, one after the other. Faults of different targets may overlap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lane {
    pub(crate) target: Target,
    pub(crate) events: Vec<Event>,
}

/// A fault that may be drawn, with its shortest and its longest duration in milliseconds.
type Card = (Fault, u64, u64);

/// Short suspensions are as frequent as long ones.
const VALIDATOR: [Card; 6] = [
    (Fault::Stop, 100, 300),
    (Fault::Stop, 300, 1_000),
    (Fault::Stop, 1_000, 3_000),
    (Fault::Stop, 3_000, 15_000),
    (Fault::Kill, 0, 200),
    (Fault::Kill, 200, 1_500),
];

/// In two of these, the admin is away for so long that the other admin evicts it.
const ADMIN: [Card; 5] = [
    (Fault::Stop, 100, 1_000),
    (Fault::Stop, 1_000, 3_000),
    (Fault::Stop, 6_000, 15_000),
    (Fault::Kill, 0, 1_500),
    (Fault::Kill, 3_000, 6_000),
];

/// The length of a delay is drawn in [`draw`].
const LINK: [Card; 6] = [
    (Fault::Cut, 100, 3_000),
    (Fault::Silence, 100, 3_000),
    (Fault::HalfOpenUp, 100, 3_000),
    (Fault::HalfOpenDown, 100, 3_000),
    (Fault::Delay(Duration::ZERO), 500, 4_000),
    (Fault::Reset, 0, 1),
];

const DATABASE: [Card; 2] = [(Fault::Restart, 0, 1_500), (Fault::Crash, 0, 1_500)];

/// In each minute there is a lull: the only fault is an admin's suspension, which is so long that the other admin
/// evicts it. Only then can a deactivation return on acknowledgements alone.
const LULL: Range<Duration> = Duration::from_secs(43)..Duration::from_secs(52);
const LULL_STOP: Event = Event { at: Duration::from_secs(44), fault: Fault::Stop, lasts: Duration::from_millis(7_900) };
const LULL_TARGET: Target = Target::Admin(1);
const MINUTE: Duration = Duration::from_secs(60);

impl Fault {
    /// Returns its index in [`KINDS`].
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
        all.extend((0..VALIDATORS).flat_map(|v| (0..ADMINS).map(move |a| Self::Link(v, a))));
        all.extend((0..ADMINS).map(Self::DatabaseLink));
        all.push(Self::Database);
        all
    }

    /// Returns the faults of the target, and the shortest and longest pause between them in milliseconds. The pauses of
    /// admins and the database are longer, so that enough deactivations are undisturbed.
    const fn deck(self) -> (&'static [Card], u64, u64) {
        match self {
            Self::Validator(_) => (&VALIDATOR, 1_000, 6_000),
            Self::Admin(_) => (&ADMIN, 5_000, 12_000),
            Self::Link(..) => (&LINK, 1_000, 6_000),
            Self::DatabaseLink(_) => (&LINK, 6_000, 12_000),
            Self::Database => (&DATABASE, 12_000, 20_000),
        }
    }

    /// Returns the admins whose calls cannot be held to the guaranteed time during the fault.
    pub(crate) fn disturbs(self) -> Vec<usize> {
        match self {
            Self::Validator(_) | Self::Link(..) => Vec::new(),
            Self::Admin(admin) | Self::DatabaseLink(admin) => vec![admin],
            Self::Database => (0..ADMINS).collect(),
        }
    }
}

/// Returns the faults of every target within `length`. A longer schedule begins with the same faults.
pub(crate) fn schedule(seed: u64, length: Duration) -> Vec<Lane> {
    let lane = |(n, target)| Lane { target, events: events(target, &mut Dice::of(seed, n), length) };
    (0..).zip(Target::all()).map(lane).collect()
}

fn events(target: Target, dice: &mut Dice, length: Duration) -> Vec<Event> {
    let (deck, rest, most) = target.deck();
    let (mut events, mut at, mut left) = (Vec::new(), Duration::ZERO, VecDeque::new());
    loop {
        if left.is_empty() {
            // Each fault is drawn once before any is drawn again, so that every run has all of them.
            let mut order = deck.to_vec();
            dice.shuffle(&mut order);
            left.extend(order);
        }
        let Some(card) = left.pop_front() else { return events };
        let mut begins = at + Duration::from_millis(dice.between(rest, most));
        let (fault, lasts) = draw(card, target, dice);
        if let Some(minute) = lull_between(at, begins + lasts) {
            if target == LULL_TARGET && minute + LULL_STOP.at + LULL_STOP.lasts <= length {
                events.push(Event { at: minute + LULL_STOP.at, ..LULL_STOP });
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

/// Returns the begin of the minute whose lull starts between two times. `from` must not be in a lull.
fn lull_between(from: Duration, to: Duration) -> Option<Duration> {
    let minute = Duration::from_secs(from.as_secs() / MINUTE.as_secs() * MINUTE.as_secs());
    let minute = if from > minute + LULL.start { minute + MINUTE } else { minute };
    (minute + LULL.start < to).then_some(minute)
}

/// Draws the length of a delay. Delays to the database are shorter, because they add up over the statements of a
/// transaction.
fn draw((fault, from, to): Card, target: Target, dice: &mut Dice) -> (Fault, Duration) {
    let lasts = Duration::from_millis(dice.between(from, to));
    let longest = if matches!(target, Target::DatabaseLink(_)) { 50 } else { 400 };
    let by = Duration::from_millis(dice.between(5, longest));
    (if matches!(fault, Fault::Delay(_)) { Fault::Delay(by) } else { fault }, lasts)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validator(v) => write!(f, "v{v}"),
            Self::Admin(a) => write!(f, "a{a}"),
            Self::Link(v, a) => write!(f, "v{v}-a{a}"),
            Self::DatabaseLink(a) => write!(f, "a{a}-db"),
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
    fn a_seed_determines_the_schedule_and_a_longer_schedule_begins_the_same() {
        assert_eq!(schedule(7, MINUTE), schedule(7, MINUTE));
        assert_ne!(schedule(7, MINUTE), schedule(8, MINUTE));
        for (short, long) in schedule(7, MINUTE).iter().zip(schedule(7, MINUTE * 10)) {
            assert!(long.events.starts_with(&short.events));
        }
    }

    #[test]
    fn one_minute_of_any_seed_has_every_kind_of_fault_and_ends_them_all() {
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
    fn in_the_lull_of_each_minute_the_only_fault_is_one_suspended_admin() {
        for seed in 0..50 {
            for lane in schedule(seed, MINUTE * 3) {
                for minute in 0..3 {
                    let lull = MINUTE * minute + LULL.start..MINUTE * minute + LULL.end;
                    let touches = |event: &&Event| event.at < lull.end && event.at + event.lasts > lull.start;
                    let found: Vec<_> = lane.events.iter().filter(touches).collect();
                    let away = Event { at: MINUTE * minute + LULL_STOP.at, ..LULL_STOP };
                    let expected = if lane.target == LULL_TARGET { vec![&away] } else { Vec::new() };
                    assert_eq!(found, expected, "seed {seed}, minute {minute}, {}", lane.target);
                }
            }
        }
    }
}
