//! Reads the comments of a file that allow warnings, before anything else of it is read. It knows nothing of what the file
//! says.

use super::{
    fields::nearest,
    pen::NodeReader,
    warning::{Allowed, Warning},
};

impl NodeReader<'_> {
    /// Takes note of the warnings that the lines of a YAML text allow, and warns of words there that name none.
    pub(super) fn allowed_warnings(&mut self, text: &str) {
        let Some(mut allowed) = Allowed::of(text) else { return };
        let unknown = std::mem::take(&mut allowed.unknown);
        if !self.report.allow(self.path, allowed) {
            return;
        }
        for (at, word) in unknown {
            let problem = self.warn(at, Warning::UnknownAllow, format!("there is no warning `{word}` to allow"));
            match nearest(&word, &Warning::ALL.map(Warning::name)) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem.hint("`tollgate check` prints their names in brackets: `warning[…]`"),
            }
        }
    }
}
