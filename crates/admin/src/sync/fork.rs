//! When the database is not the one that it was: a backup was restored, or a server took over without the last changes.
//!
//! It is noticed by an admin that lived through it, whose own place is not in the log any more, and by one that did not
//! when a validator comes that knows more than the log. The database then gets a new epoch, and in it what the lost
//! history refused stays refused ([`keyward_store::Store::mend_history`]). Validators come back, take a snapshot, and go
//! on; nobody needs to do anything for keys that are active in both.

use std::time::Duration;

use keyward_domain::{Error, Position, Revision, WithheldToken};
use keyward_replica::{Basis, Clock, Settled};
use keyward_runtime::status;
use keyward_store::{Bearing, History};
use tonic::Status;

use crate::sync::image::Image;
use crate::sync::publisher::Publisher;
use crate::sync::state::State;
use crate::sync::withheld::Withheld;

/// How long the database may take to answer: there may be much to look through.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait until this admin knows what a validator knows.
const REACH: Duration = Duration::from_secs(1);

async fn answered<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, question).await;
    answer.unwrap_or_else(|_| Err(Error::store_unavailable("no answer about the history")))
}

impl Publisher {
    /// Whether the place that a validator stands at is in this history.
    ///
    /// # Errors
    /// UNAVAILABLE: this admin is behind, or must find out first whether the database has lost changes.
    pub(super) async fn place_of(&self, place: &Position) -> Result<bool, Status> {
        if self.lock().is_of_epoch(place) {
            // It comes from an admin that was quicker; what it knows is soon known here too.
            self.reach(place.revision, REACH).await;
        }
        if self.lock().contains(place) {
            return Ok(true);
        }
        // Read after the Hello, so a database that has lost nothing has the place.
        let found = self.store().bearing(place).await;
        let (bearing, head) = found.map_err(|e| status::from_error(&e))?;
        let state = self.lock();
        let reached = state.revision;
        let (same_epoch, behind) = (state.is_of_epoch(&head), state.is_of_epoch(place) && reached < place.revision);
        drop(state);
        if bearing == Bearing::Lost || !same_epoch {
            self.suspect(*place);
            return Err(status::from_error(&Error::history_uncertain()));
        }
        if behind {
            return Err(status::from_error(&Error::admin_behind(place.revision, reached)));
        }
        Ok(bearing == Bearing::Continues)
    }

    /// Has a place looked for that somebody knows and the database seems not to.
    fn suspect(&self, place: Position) {
        self.lock().suspicion = Some(place);
        self.hint();
    }

    /// Finds this admin's place in the database's history, if there is doubt about it.
    pub(super) async fn mend(&self) -> Result<(), Error> {
        let (own, suspicion, in_doubt) = {
            let state = self.lock();
            (state.known(), state.suspicion, state.in_doubt)
        };
        if suspicion.is_none() && !in_doubt {
            return Ok(());
        }
        let seen: Vec<_> = suspicion.into_iter().chain(self.store().newest_seen()).collect();
        let (bearing, _) = answered(self.store().bearing(&own)).await?;
        let lost = bearing != Bearing::Continues;
        // All keys are looked through for that.
        let refused = if lost { self.refused() } else { Vec::new() };
        let mended = answered(self.store().mend_history(&seen, &own, &refused)).await?;
        if mended.own_is_gone && !lost {
            // It has changed between two questions: asked again, with what this admin knows.
            self.lock().doubt();
            return Err(Error::history_changed());
        }
        self.lock().suspicion = None;
        if mended.minted {
            tracing::error!(
                epoch = %mended.head.epoch,
                revision = %mended.head.revision,
                withheld = mended.withheld,
                "the database has lost changes; its history has a new epoch, and what was seen denied stays denied until \
                 an owner accepts it: keyward audit accept-epoch"
            );
        }
        if mended.own_is_gone {
            return self.load_again(refused).await;
        }
        if in_doubt {
            self.doubt_no_more().await?;
        }
        // What has only been added to is followed.
        self.hint();
        Ok(())
    }

    /// All that validators were told is in the log. What gave rise to doubt was lost before anybody was told of it, or came
    /// from a server that is the database no longer.
    async fn doubt_no_more(&self) -> Result<(), Error> {
        self.store().reconnect().await?;
        let mut state = self.lock();
        state.in_doubt = false;
        state.doubts += 1;
        state.note_applied();
        drop(state);
        self.listen_again().notify_one();
        self.beat_now().notify_one();
        self.moved();
        Ok(())
    }

    /// Every token that this admin has seen refused, in the history that it knows.
    fn refused(&self) -> Vec<WithheldToken> {
        let (chunks, withheld, unknown) = {
            let state = self.lock();
            (state.image.snapshot(), state.withheld.clone(), state.unknown.clone())
        };
        let keys = chunks.iter().flat_map(|chunk| chunk.iter());
        keys.flat_map(|entry| withheld.apply(entry).ends().collect::<Vec<_>>()).chain(unknown).collect()
    }

    /// Begins anew with what the database has now. `refused`: what this admin has seen refused.
    async fn load_again(&self, refused: Vec<WithheldToken>) -> Result<(), Error> {
        self.part();
        let mut image = Image::default();
        let history = answered(self.store().load_history(|entry| image.put(entry))).await?;
        let wait_out = self.longest_wait();
        let mut state = self.lock();
        tracing::info!(revision = %history.head.revision, epoch = %history.head.epoch, "image loaded again");
        state.begin_again(image, history, refused, wait_out);
        self.metrics().forked();
        self.note(&state);
        drop(state);
        self.beat_now().notify_one();
        self.moved();
        Ok(())
    }

    /// Ends what was of a history that the database has not.
    fn part(&self) {
        let mut state = self.lock();
        tracing::error!(revision = %state.revision, "the database has lost changes that validators know");
        state.doubt();
        state.expel_all();
    }
}

impl State {
    /// Whether a place is of the epoch that this admin is in.
    fn is_of_epoch(&self, place: &Position) -> bool {
        place.epoch == self.known().epoch
    }

    /// Whether a place is known to be in this history without asking the database.
    fn contains(&self, place: &Position) -> bool {
        self.is_of_epoch(place) && self.missed_since(place.revision, &place.chain).is_some()
    }

    /// The database seems to lack what is known: until that is found out there is no lease any more, nobody joins, and nothing
    /// counts as enforced.
    pub(super) fn doubt(&mut self) {
        if !self.in_doubt {
            tracing::warn!(revision = %self.revision, "the database seems to have lost changes; looking for them");
        }
        self.in_doubt = true;
        self.forget_others();
    }

    /// The log goes on in a new epoch, with nothing lost that this admin knows.
    pub(super) fn enter(&mut self, epoch: keyward_domain::Epoch, wait_out: Duration) {
        tracing::error!(%epoch, "the database was found to have lost changes; its history has a new epoch");
        (self.epoch, self.accepted) = (epoch, false);
        self.doubts += 1;
        self.forget_others();
        self.expel_all();
        self.recent.clear();
        self.sessions.forked(wait_out, self.clock.now());
    }

    fn begin_again(&mut self, image: Image, history: History, refused: Vec<WithheldToken>, wait_out: Duration) {
        let History { head, withheld, accepted, .. } = history;
        self.image = image;
        // Another restore may bring them back.
        self.unknown = if accepted { Vec::new() } else { refused };
        self.unknown.retain(|token| !self.image.has(token));
        self.recent.clear();
        (self.epoch, self.revision, self.chain) = (head.epoch, head.revision, head.chain);
        self.withheld = Withheld::default();
        self.withheld.extend(withheld);
        (self.accepted, self.in_doubt) = (accepted, false);
        self.doubts += 1;
        self.forget_others();
        if let Some(shared) = &mut self.shared {
            shared.basis = Basis::new(Revision(0));
        }
        self.sessions.forked(wait_out, self.clock.now());
        self.note_applied();
    }

    /// What was found out with other admins was found out in another history.
    fn forget_others(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.basis.lose();
            shared.settled = Settled::default();
        }
    }
}
