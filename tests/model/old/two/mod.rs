//! Two admins over one database, and a validator that moves between them. The deactivation is made at one of them,
//! which asks the other how its validators stand.

mod beat;
mod search;
mod state;
mod step;
mod world;
