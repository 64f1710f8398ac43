use sea_orm::entity::prelude::*;

use crate::row_mac::{Authentic, MacInput};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub member_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub method: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    pub payload: Vec<u8>,
    pub resource: String,
    pub revision: i64,
    pub sealed: Option<Vec<u8>>,
    pub sealing_key_id: Option<i32>,
    pub create_time: i64,
    pub mac: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Authentic for Model {
    const TABLE: &'static str = "request";

    fn columns(&self, input: &mut MacInput) {
        input
            .text(&self.member_id)
            .text(&self.method)
            .text(&self.request_id)
            .bytes(&self.payload)
            .text(&self.resource)
            .number(self.revision)
            .optional(self.sealed.as_deref(), MacInput::bytes)
            .optional(self.sealing_key_id, MacInput::number)
            .number(self.create_time);
    }

    fn stored_mac(&self) -> Option<&[u8]> {
        self.mac.as_deref()
    }
}
