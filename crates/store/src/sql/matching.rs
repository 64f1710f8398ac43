use keyward_domain::filter::TextMatch;
use sea_orm::sea_query::{Expr, ExprTrait, Func, IntoColumnRef, SimpleExpr};

/// The condition that a column equals a text or begins with it. LIKE would not do: it ignores case in SQLite, and takes `_` and
/// `%` for wildcards.
pub(crate) fn matching(column: impl IntoColumnRef, text: &TextMatch) -> SimpleExpr {
    match text {
        TextMatch::Exact(text) => Expr::col(column).eq(text),
        TextMatch::Prefix(beginning) => {
            let length = i32::try_from(beginning.chars().count()).unwrap_or(i32::MAX);
            Func::cust("substr").arg(Expr::col(column)).arg(1).arg(length).eq(beginning)
        }
    }
}
