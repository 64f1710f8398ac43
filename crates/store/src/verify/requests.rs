use sea_orm::EntityTrait;

use crate::connection::Transaction;
use crate::entity::request::{Column, Entity};
use crate::error::TxError;
use crate::remembered::{Trust, trust};
use crate::store::Store;
use crate::verify::report::Findings;

const FORGED: &str = "the remembered request was changed outside Keyward";

/// Rows per query.
const PAGE: u64 = 2_000;

/// Checks the rows of remembered requests by their MACs. A deleted row is not found: without it, a retry is a new request.
pub(super) async fn check(tx: &Transaction, store: &Store, findings: &mut Findings) -> Result<(), TxError> {
    let mut after: Option<(String, String, String)> = None;
    loop {
        let mut cursor = Entity::find().cursor_by((Column::MemberId, Column::Method, Column::RequestId));
        if let Some(after) = after.take() {
            cursor.after(after);
        }
        let rows = cursor.first(PAGE).all(tx).await?;
        for row in &rows {
            if trust(tx, store, row).await? == Trust::None {
                findings.add(format!("members/{}, {} {}", row.member_id, row.method, row.request_id), FORGED);
            }
        }
        let Some(last) = rows.into_iter().last() else { return Ok(()) };
        after = Some((last.member_id, last.method, last.request_id));
    }
}
