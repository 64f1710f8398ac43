use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, DatabaseTransaction, DbErr, EntityTrait, QueryOrder, QuerySelect};

use keyward_domain::{Position, Revision};
use keyward_token::DigestKey;

use crate::convert::to_chain;
use crate::entity::{change, counter};
use crate::write::{chain_of, mac};

/// Gives the head of a database of before 2026-11-24 its keyed hash, in the transaction that makes room for it: at no
/// other time is a head without one taken for good. The log's last entry shows that the keyring is the right one.
pub(crate) async fn sign_head(tx: &DatabaseTransaction, key: &DigestKey) -> Result<(), DbErr> {
    let Some(row) = counter::Entity::find_by_id(1).one(tx).await? else { return Ok(()) };
    let newest = change::Entity::find().order_by_desc(change::Column::Revision).limit(2).all(tx).await?;
    let previous = newest.get(1).map_or(Ok([0; 32]), |entry| to_chain(&entry.chain)).map_err(wrong)?;
    let chain = to_chain(&row.chain).map_err(wrong)?;
    let last = newest.first().filter(|entry| entry.revision == row.revision);
    if last.is_none_or(|entry| chain_of(entry, key, &previous) != chain) {
        return Err(wrong("the end of the change log does not fit this keyring"));
    }
    let head = Position { epoch: row.epoch.into(), revision: Revision(row.revision), chain };
    let mut row: counter::ActiveModel = row.into();
    row.mac = Set(Some(mac(key, &head).to_vec()));
    row.update(tx).await?;
    Ok(())
}

fn wrong(what: impl std::fmt::Display) -> DbErr {
    DbErr::Custom(format!("cannot bring the database up to date: {what}"))
}
