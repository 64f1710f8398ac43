//! Follows the change log, and repairs the history after the database has lost changes: a backup was restored, or a server
//! took over without the last changes.
//!
//! The loss is noticed by an admin whose own head is not in the log any more, and by an admin whose validator names a
//! position that the log lacks. The database then continues in a new epoch, in which every token that the lost history
//! denied stays denied ([`keyward_store::Store::repair_history`]). Validators reconnect and take a snapshot. Keys that are
//! active in both histories work throughout.

use std::time::Duration;

use keyward_domain::{Error, Position, WithheldToken};
use keyward_protocol::admin::{Effect, Event, Known, NotNow};
use keyward_replica::Clock;
use keyward_store::HistoryRepair;

use crate::sync::image::Image;
use crate::sync::publisher::Publisher;

/// Changes read from the log at once.
const PAGE: u64 = 512;

/// The longest wait before the log is read without a notification.
const POLL: Duration = Duration::from_secs(1);

/// The time limit of one read of the log: a connection may be dead without an error.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a check or a repair of the history, which may look through all tokens.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest wait for a position that a validator knows and this admin has not read yet.
const CATCH_UP: Duration = Duration::from_secs(1);

async fn within<T>(limit: Duration, query: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(limit, query).await;
    answer.unwrap_or_else(|_| Err(Error::store_unavailable("no answer in time about the change log")))
}

impl Publisher {
    /// Follows the log until the future is dropped.
    pub(super) async fn follow_log(&self) {
        loop {
            if let Err(error) = self.read_and_check_log().await {
                let detail = error.internal_detail().unwrap_or_default();
                tracing::warn!(%error, detail, "cannot read the change log; validators are not fed");
            }
            // The poll keeps the wall clock fresh, and finds changes of other admins.
            let _ = tokio::time::timeout(POLL, self.read_log.notified()).await;
        }
    }

    async fn read_and_check_log(&self) -> Result<(), Error> {
        self.catch_up().await?;
        // Last, so that a doubt about the history does not keep validators from being fed.
        self.check_history().await
    }

    async fn catch_up(&self) -> Result<(), Error> {
        loop {
            let head = self.lock().node.history().head();
            let changes = within(READ_TIMEOUT, self.store.changes_following(&head, PAGE)).await?;
            let Some(changes) = changes else {
                self.handle(Event::HeadMissing);
                return Ok(());
            };
            if changes.is_empty() {
                break;
            }
            if !self.publish(changes) {
                return Ok(());
            }
        }
        if self.store.is_shared() {
            // Heartbeats bring the time.
            return Ok(());
        }
        // This machine's clock is read first: the wall clock then runs ahead by the time of the query, and never behind, so no
        // key is accepted after its expiry.
        let asked_at = self.clock.now();
        let now = self.store.now().await?;
        self.lock().wall = (now, asked_at);
        Ok(())
    }

    /// Looks for this admin's head and for a suspect position in the log, and repairs the history if one is lost.
    async fn check_history(&self) -> Result<(), Error> {
        let (head, suspect, in_doubt) = {
            let feed = self.lock();
            let history = feed.node.history();
            (history.head(), history.suspect(), history.is_in_doubt())
        };
        if suspect.is_none() && !in_doubt {
            return Ok(());
        }
        let seen: Vec<_> = suspect.into_iter().chain(self.store.newest_seen()).collect();
        let (relation, _) = within(REPAIR_TIMEOUT, self.store.log_relation(&head)).await?;
        let was_lost = relation.is_lost();
        let refused = if was_lost { self.refused() } else { Vec::new() };
        let repair = within(REPAIR_TIMEOUT, self.store.repair_history(&seen, &head, &refused)).await?;
        log_repair(&repair);
        for effect in self.handle(Event::HistoryChecked { was_lost, is_lost: repair.own_lost }) {
            match effect {
                Effect::Reload => self.reload(&refused, &repair.head).await?,
                Effect::Reconnect => {
                    self.store.reconnect().await?;
                    self.listen_again.notify_one();
                    self.handle(Event::Reconnected);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn refused(&self) -> Vec<WithheldToken> {
        let refused = self.lock().refused();
        refused()
    }

    /// Loads everything that the database has now. `refused`: the tokens that this admin has seen denied. `repaired`: the end of
    /// the log after the repair. A log without it was replaced once more, and does not record what was denied: the error
    /// leads to another repair, with the image as it was.
    async fn reload(&self, refused: &[WithheldToken], repaired: &Position) -> Result<(), Error> {
        tracing::error!("the database has lost changes that validators know; loading it again");
        let mut image = Image::default();
        let loaded = within(REPAIR_TIMEOUT, self.store.load_history_with(repaired, |entry| image.put(entry))).await?;
        let Some(history) = loaded else {
            self.read_log.notify_one();
            return Err(Error::history_changed());
        };
        let (head, accepted) = (history.head, history.accepted);
        tracing::info!(revision = %head.revision, epoch = %head.epoch, "image loaded again");
        let mut feed = self.lock();
        feed.reload(image, history, refused.to_vec());
        self.handle_locked(&mut feed, Event::Reloaded { head, accepted });
        self.metrics.forked();
        self.record(&feed);
        Ok(())
    }

    /// Withholds the tokens that a validator denies because an earlier epoch denied them, for every validator, as far as this
    /// admin's history accepts them for longer. Returns their number.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub(super) async fn withhold_reported(&self, reported: Vec<WithheldToken>) -> Result<usize, Error> {
        let (epoch, tokens) = {
            let feed = self.lock();
            if !feed.node.history().takes_reports() {
                return Ok(0);
            }
            (feed.node.history().head().epoch, feed.accepted_longer(reported))
        };
        if tokens.is_empty() {
            return Ok(0);
        }
        let (withheld, head) = within(READ_TIMEOUT, self.store.withhold_reported(epoch, &tokens)).await?;
        if withheld > 0 {
            self.announce(head.revision);
        }
        Ok(withheld)
    }

    /// Decides about a validator whose Hello names `position`. Returns `true` if the history contains the position.
    ///
    /// # Errors
    /// UNAVAILABLE: this admin is behind, or must first find out if the database has lost changes.
    pub(super) async fn admit(&self, position: &Position) -> Result<bool, Error> {
        let known = |position| self.lock().node.history().relation(position);
        if known(position) == Known::Ahead {
            // The validator comes from an admin that was faster.
            self.reach(position.revision, CATCH_UP).await;
        }
        if known(position) == Known::Contained {
            return Ok(true);
        }
        // The log is read after the Hello, so a database that has lost nothing contains the position.
        let (relation, log) = self.store.log_relation(position).await?;
        let mut feed = self.lock();
        feed.node.admit(position, relation, &log).map_err(|why| match why {
            NotNow::InDoubt => {
                self.read_log.notify_one();
                Error::history_uncertain()
            }
            NotNow::Behind => Error::admin_behind(position.revision, feed.revision()),
        })
    }
}

fn log_repair(repair: &HistoryRepair) {
    if repair.new_epoch {
        tracing::error!(
            epoch = %repair.head.epoch,
            revision = %repair.head.revision,
            withheld = repair.withheld,
            "the database has lost changes; its history has a new epoch, and what was seen denied stays denied until \
             an owner accepts it: keyward audit accept-epoch"
        );
    }
}
