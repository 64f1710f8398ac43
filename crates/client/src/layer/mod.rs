//! The tower layer: what gateways do for services behind them, done by the service itself.

mod credential;
mod keyward_layer;
mod refuse;
mod route;
mod service;
mod unanswered;

pub use keyward_layer::KeywardLayer;
pub use service::KeywardService;
