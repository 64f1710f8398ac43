//! The tower layer: does in a service what gateways do for the services behind them.

mod credential;
mod keyward_layer;
mod refuse;
mod route;
mod service;
mod unanswered;

pub use keyward_layer::KeywardLayer;
pub use service::KeywardService;
