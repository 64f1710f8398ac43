use keyward_domain::{Key, Timestamp};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::entity::{key, key_token, withheld_token};

/// The uids of the keys whose newest token is withheld at an instant: a lost history denied the token from then or earlier on.
/// An older token of a key does not count, because the key has another one.
pub(crate) fn withheld_keys(now: Timestamp) -> SelectStatement {
    let newer = Alias::new("newer");
    let token = |column| Expr::col((key_token::Entity, column));
    let newer_token = Query::select()
        .expr(Expr::val(1))
        .from_as(key_token::Entity, newer.clone())
        .and_where(Expr::col((newer.clone(), key_token::Column::KeyUid)).eq(token(key_token::Column::KeyUid)))
        .and_where(Expr::col((newer, key_token::Column::Generation)).gt(token(key_token::Column::Generation)))
        .to_owned();
    Query::select()
        .column((key_token::Entity, key_token::Column::KeyUid))
        .from(withheld_token::Entity)
        .inner_join(
            key_token::Entity,
            token(key_token::Column::Digest).eq(Expr::col((withheld_token::Entity, withheld_token::Column::Digest))),
        )
        .and_where(Expr::col((withheld_token::Entity, withheld_token::Column::RefusedFrom)).lte(now.as_micros()))
        .and_where(Expr::exists(newer_token).not())
        .to_owned()
}

/// Returns `true` if the newest token of the key is withheld at an instant.
pub(crate) async fn is_withheld(db: &impl ConnectionTrait, of: &Key, now: Timestamp) -> Result<bool, DbErr> {
    let found = key::Entity::find_by_id(Uuid::from(of.uid)).filter(key::Column::Uid.in_subquery(withheld_keys(now)));
    Ok(found.one(db).await?.is_some())
}
