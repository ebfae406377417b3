//! The registry comes back after it was gone.

use crate::registry::{Upstream, serve};

impl Upstream {
    /// Starts it again on the same port, with what it had.
    pub fn restart(&mut self) {
        self.kill();
        let address = self.address.to_string();
        (self.child, self.address) = serve(self.folder.path(), &address);
    }
}
