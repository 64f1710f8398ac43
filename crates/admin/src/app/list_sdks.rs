use crate::app::App;
use crate::sdks::{Sdk, grid};

impl App {
    /// The setup grid, which is the same for every caller.
    pub(crate) fn list_sdks(&self) -> Vec<Sdk> {
        grid(&self.public_url)
    }
}
