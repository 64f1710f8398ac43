use crate::app::App;
use crate::sdks::{Sdk, grid};

impl App {
    /// The setup grid: the same for whoever may see a project at all.
    pub(crate) fn sdks(&self) -> Vec<Sdk> {
        grid(&self.public_url)
    }
}
