use keyward_domain::filter::TextMatch;
use sea_orm::sea_query::{Expr, ExprTrait, Func, IntoColumnRef, SimpleExpr};

/// That a column is, or begins with, a text. Not by LIKE: for SQLite that knows no case, and `_` is no letter to it.
pub(crate) fn matching(column: impl IntoColumnRef, text: &TextMatch) -> SimpleExpr {
    match text {
        TextMatch::Exact(text) => Expr::col(column).eq(text),
        TextMatch::Prefix(beginning) => {
            let length = i32::try_from(beginning.chars().count()).unwrap_or(i32::MAX);
            Func::cust("substr").arg(Expr::col(column)).arg(1).arg(length).eq(beginning)
        }
    }
}
