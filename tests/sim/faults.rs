//! Random faults of machines, the network and the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use turmoil::Sim;

use crate::database::DatabaseLink;
use crate::mutant::Mutant;
use crate::simulation::{CALM, QUICKEST, SLOWEST};
use crate::time::STEP;
use crate::world::{ADMINS, RATE_ERROR, VALIDATORS, World};

pub(crate) const OPERATOR: &str = "operator";
pub(crate) const GATEWAY: &str = "gateway";

/// How long an admin may take to recover from a fault.
const SETTLES: Duration = Duration::from_secs(1);

type Link = (String, String);

/// How a fault ends.
#[derive(Debug)]
enum Undo {
    Repair(Link),
    /// Held messages are delivered, and then the link is cut.
    ReleaseAndCut(Link),
    Cut(Link),
    RepairAll(Vec<Link>),
    /// The link gets its normal latency again.
    RestoreLatency(Link),
    RestoreLatencyAndCut(Link),
    RepairOneWay(Link),
    Release(Vec<Link>),
    Start(Vec<String>),
    /// The machine's clock continues at that rate.
    Wake(Vec<Link>, String, f64),
}

#[derive(Debug)]
struct Active {
    until: Duration,
    undo: Undo,
    links: Vec<Link>,
    machines: Vec<String>,
}

/// The faults of one simulation.
pub(crate) struct Faults {
    world: Arc<World>,
    random: StdRng,
    next: Duration,
    active: Vec<Active>,
    /// How many faults of each kind there were.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// The times at which an admin or its connection to the database was affected by a fault.
    pub(crate) disturbances: Vec<(usize, Duration, Duration)>,
}

impl Faults {
    pub(crate) fn new(world: &Arc<World>, first: Duration) -> Self {
        Self {
            world: Arc::clone(world),
            random: world.random(1),
            next: first,
            active: Vec::new(),
            counts: BTreeMap::new(),
            disturbances: Vec::new(),
        }
    }

    /// Ends faults that are over, and begins a new one when it is due. If `calm`, ends all faults and begins none.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, calm: bool) {
        let now = sim.elapsed();
        while let Some(over) = self.active.iter().position(|active| active.until <= now || calm) {
            let active = self.active.swap_remove(over);
            self.undo(sim, active.undo);
        }
        if !calm && now >= self.next {
            self.next = now + Duration::from_millis(self.random.random_range(150..900));
            self.begin(sim, now);
        }
    }

    /// Returns `true` if neither the admin nor its connection to the database was affected by a fault, with time to
    /// recover.
    pub(crate) fn was_healthy(&self, admin: usize, from: Duration, to: Duration) -> bool {
        !self.disturbances.iter().any(|(who, begun, ended)| *who == admin && *begun <= to && from <= *ended + SETTLES)
    }

    fn seconds(&mut self, range: std::ops::Range<f64>) -> Duration {
        Duration::from_secs_f64(self.random.random_range(range))
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: Duration) {
        match self.random.random_range(0..100) {
            0..20 => self.cut(sim, now),
            20..28 => self.hold(sim, now),
            28..35 => self.slow(sim, now),
            35..47 => self.crash(sim, now),
            47..53 => self.restart(now),
            53..68 => self.pause(sim, now, "pause"),
            68..76 => self.pause(sim, now, "suspend"),
            76..82 => self.change_rate(now),
            82..94 => self.disturb_database(now),
            _ => self.storm(sim, now),
        }
    }

    // === machines and links ===

    fn validator(&mut self) -> String {
        format!("validator-{}", self.random.random_range(0..VALIDATORS))
    }

    fn admin(&mut self) -> usize {
        self.random.random_range(0..ADMINS)
    }

    fn machine(&mut self) -> String {
        if self.random.random_bool(0.4) { format!("admin-{}", self.admin()) } else { self.validator() }
    }

    fn admins(&self) -> impl Iterator<Item = String> + use<> {
        (0..ADMINS).map(|admin| format!("admin-{admin}"))
    }

    /// Returns every link of a machine.
    fn links_of(&self, machine: &str) -> Vec<Link> {
        let mut others: Vec<_> = self.admins().filter(|admin| admin != machine).collect();
        if machine.starts_with("admin") {
            others.push(OPERATOR.to_owned());
            others.extend((0..VALIDATORS).map(|validator| format!("validator-{validator}")));
        } else {
            others.push(GATEWAY.to_owned());
        }
        others.into_iter().map(|other| (machine.to_owned(), other)).collect()
    }

    fn is_free(&self, link: &Link) -> bool {
        let same = |other: &Link| other == link || (&other.1, &other.0) == (&link.0, &link.1);
        !self.active.iter().any(|active| active.links.iter().any(same))
    }

    fn is_healthy(&self, machine: &str) -> bool {
        !self.active.iter().any(|active| active.machines.iter().any(|other| other == machine))
    }

    fn note(&mut self, now: Duration, kind: &'static str, what: &str) {
        *self.counts.entry(kind).or_default() += 1;
        self.world.history().note(now, &format!("=== {kind} {what}"));
    }

    /// Records that a machine is affected by a fault until then.
    fn record_disturbance(&mut self, machine: &str, now: Duration, until: Duration) {
        if let Some(admin) = machine.strip_prefix("admin-").and_then(|admin| admin.parse().ok()) {
            self.disturbances.push((admin, now, until));
        }
    }

    // === the network ===

    fn cut(&mut self, sim: &Sim<'_>, now: Duration) {
        let link = if self.random.random_bool(0.15) {
            (self.validator(), GATEWAY.to_owned())
        } else {
            let admin = format!("admin-{}", self.admin());
            let other = if self.random.random_bool(0.7) { self.validator() } else { format!("admin-{}", self.admin()) };
            (other, admin)
        };
        if link.0 == link.1 || !self.is_free(&link) {
            return;
        }
        let until = now + self.seconds(0.1..2.5);
        let (a, b) = (link.0.as_str(), link.1.as_str());
        let (kind, undo, arrow) = match self.random.random_range(0..4) {
            0 => {
                sim.partition_oneway(a, b);
                ("one-way cut", Undo::RepairOneWay(link.clone()), "->")
            }
            1 => {
                sim.partition_oneway(b, a);
                ("one-way cut", Undo::RepairOneWay((link.1.clone(), link.0.clone())), "<-")
            }
            _ => {
                sim.partition(a, b);
                ("cut", Undo::Repair(link.clone()), "--")
            }
        };
        self.note(now, kind, &format!("{a} {arrow} {b} until {:.3}", until.as_secs_f64()));
        self.active.push(Active { until, undo, links: vec![link], machines: Vec::new() });
    }

    fn hold(&mut self, sim: &Sim<'_>, now: Duration) {
        let link = match self.random.random_range(0..10) {
            0..3 => (self.validator(), GATEWAY.to_owned()),
            3..5 => (format!("admin-{}", self.admin()), format!("admin-{}", self.admin())),
            _ => (self.validator(), format!("admin-{}", self.admin())),
        };
        if link.0 == link.1 || !self.is_free(&link) {
            return;
        }
        sim.hold(link.0.as_str(), link.1.as_str());
        // A stream survives the silence of a few renewals.
        let short = self.random.random_bool(0.5);
        let until = now + if short { self.seconds(0.2..0.4) } else { self.seconds(0.05..2.0) };
        self.note(now, "hold", &format!("{} -- {} until {:.3}", link.0, link.1, until.as_secs_f64()));
        let undo = if short { Undo::ReleaseAndCut(link.clone()) } else { Undo::Release(vec![link.clone()]) };
        self.active.push(Active { until, undo, links: vec![link], machines: Vec::new() });
    }

    /// Slows a link down in both directions, so that a grant is old when it arrives.
    fn slow(&mut self, sim: &Sim<'_>, now: Duration) {
        let link = (self.validator(), format!("admin-{}", self.admin()));
        let (latency, until) = (self.seconds(0.1..0.35), now + self.seconds(0.6..1.6));
        let cut = self.random.random_bool(0.6);
        if self.is_free(&link) {
            sim.set_link_latency(link.0.as_str(), link.1.as_str(), latency);
            let what = format!("{} -- {} by {latency:?} until {:.3}", link.0, link.1, until.as_secs_f64());
            self.note(now, "slow", &what);
            let undo = if cut { Undo::RestoreLatencyAndCut(link.clone()) } else { Undo::RestoreLatency(link.clone()) };
            self.active.push(Active { until, undo, links: vec![link], machines: Vec::new() });
        }
    }

    /// Cuts a link. If it is a validator's link to an admin, cuts those to the other admins too, so that it finds no
    /// other admin.
    fn cut_off(&mut self, sim: &Sim<'_>, now: Duration, link: Link) {
        let is_validators = link.0.starts_with("validator") && link.1 != GATEWAY;
        let others = self.admins().map(|admin| (link.0.clone(), admin));
        let others: Vec<_> = others.filter(|other| is_validators && *other != link && self.is_free(other)).collect();
        let links: Vec<_> = others.into_iter().chain([link]).collect();
        for (a, b) in &links {
            sim.partition(a.as_str(), b.as_str());
        }
        let until = now + self.seconds(0.5..2.0);
        self.note(now, "cut", &format!("{links:?} until {:.3}", until.as_secs_f64()));
        self.active.push(Active { until, undo: Undo::RepairAll(links.clone()), links, machines: Vec::new() });
    }

    // === processes ===

    fn crash(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let machine = self.machine();
        if self.is_healthy(&machine) {
            let until = now + self.seconds(0.02..1.5);
            self.note(now, "crash", &format!("{machine} until {:.3}", until.as_secs_f64()));
            self.take_down(sim, now, until, vec![machine]);
        }
    }

    /// Crashes several validators, which come back at the same time without their replicas.
    fn storm(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let mut machines = BTreeSet::new();
        for _ in 0..VALIDATORS {
            machines.insert(self.validator());
        }
        machines.retain(|machine| self.is_healthy(machine));
        if machines.len() > 1 {
            let until = now + self.seconds(0.02..0.4);
            self.note(now, "storm", &format!("{machines:?} until {:.3}", until.as_secs_f64()));
            self.take_down(sim, now, until, machines.into_iter().collect());
        }
    }

    fn take_down(&mut self, sim: &mut Sim<'_>, now: Duration, until: Duration, machines: Vec<String>) {
        for machine in &machines {
            sim.crash(machine.as_str());
            self.begin_next_life(machine);
            self.record_disturbance(machine, now, until);
        }
        self.active.push(Active { until, undo: Undo::Start(machines.clone()), links: Vec::new(), machines });
    }

    /// Shuts a process down gracefully, if it manages to end in time.
    fn restart(&mut self, now: Duration) {
        let machine = self.machine();
        if !self.is_healthy(&machine) {
            return;
        }
        self.world.shut_down(&machine);
        let until = now + self.seconds(0.3..6.0);
        self.record_disturbance(&machine, now, until);
        self.note(now, "restart", &format!("{machine} until {:.3}", until.as_secs_f64()));
        let undo = Undo::Start(vec![machine.clone()]);
        self.active.push(Active { until, undo, links: Vec::new(), machines: vec![machine] });
    }

    fn begin_next_life(&self, machine: &str) {
        if let Some(validator) = machine.strip_prefix("validator-").and_then(|validator| validator.parse().ok()) {
            self.world.begin_next_life(validator);
        }
    }

    /// Suspends a machine: it exchanges nothing with the network or the database.
    fn pause(&mut self, sim: &Sim<'_>, now: Duration, kind: &'static str) {
        let machine = self.machine();
        if !self.is_healthy(&machine) {
            return;
        }
        let until = now + if kind == "pause" { self.seconds(0.05..1.6) } else { self.seconds(0.5..3.0) };
        let links: Vec<_> = self.links_of(&machine).into_iter().filter(|link| self.is_free(link)).collect();
        for (a, b) in &links {
            sim.hold(a.as_str(), b.as_str());
        }
        if let Some(link) = self.database_link_of(&machine) {
            link.stall_until(until.min(CALM));
            link.mute_until(until.min(CALM));
        }
        self.record_disturbance(&machine, now, until);
        self.note(now, kind, &format!("{machine} until {:.3}", until.as_secs_f64()));
        let (near, far): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|(_, other)| kind == "pause" || other == GATEWAY);
        if !far.is_empty() {
            // A machine that resumes gets requests at once, and reaches the other machines a little later.
            let until = until + self.seconds(0.0..1.0);
            self.record_disturbance(&machine, now, until);
            self.active.push(Active { until, undo: Undo::Release(far.clone()), links: far, machines: Vec::new() });
        }
        let undo = self.end_of_suspension(now, kind, &machine, &near);
        self.active.push(Active { until, undo, links: near, machines: vec![machine] });
    }

    /// Returns how the suspension ends. For the mutant, the clock stops during the suspension.
    fn end_of_suspension(&self, now: Duration, kind: &str, machine: &str, links: &[Link]) -> Undo {
        let clock = machine.strip_prefix("validator-").and_then(|validator| validator.parse::<usize>().ok());
        match clock {
            Some(validator) if kind == "suspend" && self.world.mutant == Mutant::ClockStopsInSuspend => {
                let clock = &self.world.validator_clocks[validator];
                let rate = clock.rate();
                clock.run_at(now, 0.0);
                Undo::Wake(links.to_vec(), machine.to_owned(), rate)
            }
            _ => Undo::Release(links.to_vec()),
        }
    }

    fn database_link_of(&self, machine: &str) -> Option<&DatabaseLink> {
        let admin: usize = machine.strip_prefix("admin-")?.parse().ok()?;
        self.world.database_links.get(admin)
    }

    fn change_rate(&mut self, now: Duration) {
        let (machine, rate) = (self.machine(), self.random.random_range(1.0 - RATE_ERROR..1.0 + RATE_ERROR));
        if matches!(self.world.mutant, Mutant::SlowClocks | Mutant::FastAdminClock) || !self.is_healthy(&machine) {
            return;
        }
        let index = |prefix| machine.strip_prefix(prefix).and_then(|index: &str| index.parse::<usize>().ok());
        let clock = match (index("admin-"), index("validator-")) {
            (Some(admin), _) => &self.world.admin_clocks[admin],
            (_, Some(validator)) => &self.world.validator_clocks[validator],
            _ => return,
        };
        clock.run_at(now, rate);
        self.note(now, "clock rate", &format!("{machine} {rate:.3}"));
    }

    // === the database ===

    fn disturb_database(&mut self, now: Duration) {
        // One admin's connection, or all of them.
        let which = if self.random.random_bool(0.5) { vec![self.admin()] } else { (0..ADMINS).collect() };
        let until = now + self.seconds(0.05..1.8);
        let kinds = ["store stall", "store refusal", "late reply", "lost reply", "late reads"];
        let kind = kinds[self.random.random_range(0..kinds.len())];
        let until = if kind == "late reads" { now + self.seconds(1.0..3.5) } else { until };
        // The database is calm at the end, too.
        let until = until.min(CALM);
        for admin in &which {
            let link = &self.world.database_links[*admin];
            match kind {
                "store stall" => link.stall_until(until),
                "store refusal" => link.refuse_until(until),
                "late reply" => link.mute_until(until),
                "late reads" => link.delay_reads_until(until),
                _ => link.lose_commit(),
            }
            self.disturbances.push((*admin, now, until));
        }
        self.note(now, kind, &format!("{which:?} until {:.3}", until.as_secs_f64()));
    }

    // === the end ===

    fn undo(&mut self, sim: &mut Sim<'_>, undo: Undo) {
        let now = sim.elapsed();
        match undo {
            Undo::Repair((a, b)) => sim.repair(a, b),
            Undo::ReleaseAndCut(link) => {
                sim.release(link.0.as_str(), link.1.as_str());
                let (until, undo) = (now + 3 * STEP, Undo::Cut(link.clone()));
                self.active.push(Active { until, undo, links: vec![link], machines: Vec::new() });
            }
            Undo::Cut(link) => self.cut_off(sim, now, link),
            Undo::RepairAll(links) => links.into_iter().for_each(|(a, b)| sim.repair(a, b)),
            Undo::RestoreLatency(link) => restore_latency(sim, &link),
            Undo::RestoreLatencyAndCut(link) => {
                restore_latency(sim, &link);
                self.cut_off(sim, now, link);
            }
            Undo::RepairOneWay((a, b)) => sim.repair_oneway(a, b),
            Undo::Release(links) => release(sim, links),
            Undo::Wake(links, machine, rate) => {
                if let Some(index) = machine.strip_prefix("validator-").and_then(|index| index.parse::<usize>().ok()) {
                    self.world.validator_clocks[index].run_at(now, rate);
                }
                release(sim, links);
            }
            Undo::Start(machines) => {
                for machine in machines {
                    self.begin_next_life(&machine);
                    self.world.history().note(now, &format!("=== {machine} starts"));
                    sim.bounce(machine);
                }
            }
        }
    }
}

fn restore_latency(sim: &Sim<'_>, (a, b): &Link) {
    // The order matters: turmoil sets both ends of the range at once, and only then can the maximum be changed.
    sim.set_link_latency(a.as_str(), b.as_str(), QUICKEST);
    sim.set_link_max_message_latency(a.as_str(), b.as_str(), SLOWEST);
}

fn release(sim: &Sim<'_>, links: Vec<Link>) {
    for (a, b) in links {
        sim.release(a, b);
    }
}
